// One MQTT connection: connects, and cuts what comes into packets for its owner.
import { connect, type Socket } from 'node:net';
import type { Endpoint } from './link.ts';
import { connectPacket, DISCONNECT, PACKET, type Packet, readPacket, subscribePacket } from './mqtt-wire.ts';

// As in link.ts: every socket reads into the same memory.
const READ_BUFFER = Buffer.allocUnsafeSlow(256 * 1024);
const NOTHING = Buffer.alloc(0);
const FOUND: Packet = { first: 0, start: 0, end: 0 };
const ANSWER_TIMEOUT_MS = 30_000;

export interface MqttOwner {
  /** `bytes` and `packet` are valid only during the call. */
  packet(link: MqttLink, bytes: Buffer, packet: Packet): void;
  violation(text: string): void;
}

type Waiting = { first: number; resolve: (body: Buffer) => void; reject: (error: Error) => void };

export class MqttLink {
  /** Its pair's place. */
  readonly slot: number;
  owner: MqttOwner | null = null;
  readonly #socket: Socket;
  #rest: Buffer = NOTHING;
  #waiting: Waiting | null = null;
  #closing = false;
  #failure = '';

  private constructor(endpoint: Endpoint, slot: number) {
    this.slot = slot;
    const onread = { buffer: READ_BUFFER, callback: (size: number) => this.#read(size) };
    this.#socket = connect({ host: endpoint.host, port: endpoint.port, noDelay: true, onread });
    this.#socket.on('error', (error) => {
      this.#failure ||= error.message;
    });
    this.#socket.on('close', () => {
      if (this.#closing) return;
      const reason = this.#failure || 'closed by the server';
      this.#waiting?.reject(new Error(`connection lost while setting up: ${reason}`));
      this.owner?.violation(`pair ${this.slot}: ${reason}`);
    });
  }

  static async open(endpoint: Endpoint, slot: number, clientId: string): Promise<MqttLink> {
    const link = new MqttLink(endpoint, slot);
    const body = await link.#ask(connectPacket(clientId), PACKET.connack);
    if (body[1] !== 0) throw new Error(`CONNACK with return code ${body[1]}`);
    return link;
  }

  async subscribe(topic: string): Promise<void> {
    const body = await this.#ask(subscribePacket(1, topic), PACKET.suback);
    if (body[2] !== 1) throw new Error(`SUBACK granted ${body[2]} and not QoS 1`);
  }

  async #ask(bytes: Buffer, first: number): Promise<Buffer> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    const timer = setTimeout(() => reject(new Error(`no answer of type ${first >> 4}`)), ANSWER_TIMEOUT_MS);
    this.#waiting = { first, resolve, reject };
    this.#socket.write(bytes);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiting = null;
    }
  }

  write(bytes: Buffer): void {
    this.#socket.write(bytes);
  }

  close(): void {
    this.#closing = true;
    this.#socket.end(DISCONNECT);
  }

  #read(size: number): boolean {
    let bytes = READ_BUFFER;
    let end = size;
    if (this.#rest.length > 0) {
      bytes = Buffer.concat([this.#rest, READ_BUFFER.subarray(0, size)]);
      end = bytes.length;
      this.#rest = NOTHING;
    }
    let at = 0;
    for (;;) {
      const found = at < end ? readPacket(bytes, at, end, FOUND) : 0;
      if (found === 0) break;
      if (found < 0) {
        this.#failure ||= 'a packet that is not MQTT';
        this.#socket.destroy();
        return false;
      }
      at = FOUND.end;
      if (this.owner !== null) this.owner.packet(this, bytes, FOUND);
      else if (this.#waiting?.first === FOUND.first) {
        this.#waiting.resolve(Buffer.from(bytes.subarray(FOUND.start, FOUND.end)));
      }
    }
    if (at < end) this.#rest = Buffer.from(bytes.subarray(at, end));
    return true;
  }
}
