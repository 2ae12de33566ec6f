import {
  AppClient,
  type Client,
  DeviceClient,
  HawserError,
  type Message,
  type Ports,
  type WireEvents,
} from '@hawser/client/core';
import {
  type Cipher,
  clientLimits,
  cmd,
  decodeEnvelope,
  encodeFrame,
  encodeText,
  FrameCutter,
  wireLimits,
} from '@hawser/protocol';
import { VirtualTime } from '@hawser/server/core/testing/time';
import { FakeCipher, fakeCiphertext, fakeSecret } from '../sim/fakes.ts';
import { Random } from '../sim/random.ts';
import {
  type Call,
  createSequence,
  mutateSequence,
  SERVER_KEY_BYTES,
  type Sequence,
  type ServerStep,
} from './hostile-server.ts';
import { expect, type Target } from './target.ts';

/** What one push may add to what is there: it is taken as a whole, or left out message by message. */
const PUSH_BYTES_MAX = wireLimits.frameBytesMax;
const AWAITED_MS = 200_000;

/** The client's package against a server that writes anything: it must not throw, hang, or fill the memory. */
export class ClientTarget implements Target<Sequence> {
  readonly name = 'client';
  readonly about = "the client's package, against a server that answers and pushes anything";
  readonly guidedBy = /client\/src\/core\/[\w-]+\.ts$/;
  readonly lookEvery = 4;
  readonly counts = { steps: 0, 'messages handed out': 0 };

  create(random: Random): Sequence {
    return createSequence(random);
  }

  mutate(input: Sequence, other: Sequence, random: Random): Sequence {
    return mutateSequence(input, other, random);
  }

  keep(input: Sequence): Sequence {
    return input;
  }

  *smaller(input: Sequence): Iterable<Sequence> {
    const { steps } = input;
    for (let piece = steps.length; piece > 0; piece = Math.floor(piece / 2)) {
      for (let at = 0; at + piece <= steps.length; at += Math.max(1, Math.floor(piece / 2))) {
        yield { ...input, steps: [...steps.slice(0, at), ...steps.slice(at + piece)] };
      }
    }
  }

  write(input: Sequence): string {
    return JSON.stringify(input);
  }

  read(text: string): Sequence {
    return JSON.parse(text) as Sequence;
  }

  async check(input: Sequence): Promise<void> {
    this.counts.steps += input.steps.length;
    const program = new Program(input);
    await program.run(input.steps);
    this.counts['messages handed out'] += program.handed;
  }
}

/** A program that uses the client, its world, and the server that it has the bad luck to find. */
class Program {
  readonly #time = new VirtualTime();
  readonly #random = new Random(1);
  readonly #client: AppClient | DeviceClient;
  readonly #reports: Error[] = [];
  readonly #faults: unknown[] = [];
  /** What was called and has not settled. */
  #open = 0;
  #ids = 0;
  /** The msgId of the client's last frame of each command. */
  readonly #asked = new Map<number, string>();
  #events: WireEvents | undefined;
  #cipher: Cipher | undefined;
  #cutter = new FrameCutter();
  #stopListening: (() => void) | undefined;
  handed = 0;
  /** Of messages that were handed out in one go, after they had waited. */
  #handedBytes = 0;

  constructor({ role, hasKey }: Sequence) {
    const ports = this.#ports(hasKey);
    this.#client = role === 'app' ? new AppClient(ports, {}) : new DeviceClient(ports, {});
  }

  async run(steps: readonly ServerStep[]): Promise<void> {
    const client = this.#client;
    this.#watch(client instanceof AppClient ? client.login('me', 'pw') : client.authenticate('me'));
    await this.#time.settle();
    for (const step of steps) {
      this.#step(step);
      await (step.do === 'pass' ? this.#time.pass(step.ms) : this.#time.settle());
      this.#expectGood();
    }
    // What waited is bounded, however much was pushed.
    this.#stopListening?.();
    this.handed = 0;
    this.#handedBytes = 0;
    this.#stopListening = client.onMessage((message) => this.#take(message));
    const { unhandledMessagesMax, unhandledBytesMax } = clientLimits;
    expect(this.handed <= unhandledMessagesMax, () => `${this.handed} messages were waiting`);
    const bytesMax = unhandledBytesMax + PUSH_BYTES_MAX;
    expect(this.#handedBytes <= bytesMax, () => `messages of ${this.#handedBytes} bytes were waiting`);
    await this.#time.pass(AWAITED_MS);
    expect(this.#open === 0, () => `${this.#open} calls have not settled after ${AWAITED_MS} ms`);
    client.close();
    await this.#time.settle();
    this.#expectGood();
    this.#time.forget();
  }

  #expectGood(): void {
    const [fault] = this.#faults;
    if (fault !== undefined) throw fault;
    for (const report of this.#reports.splice(0)) {
      expect(report instanceof HawserError, () => `reported: ${report.stack ?? report}`);
    }
  }

  // ---- the program

  #step(step: ServerStep): void {
    if (step.do === 'call') this.#call(step.what, this.#client);
    else if (step.do === 'raw') this.#receive(new Uint8Array(Buffer.from(step.hex, 'hex')));
    else if (step.do === 'frame') this.#receive(this.#frame(step));
    else if (step.do === 'flood') this.#receive(flood(step));
    else if (step.do === 'close') {
      const events = this.#events;
      this.#events = undefined;
      this.#guard(() => events?.closed());
    }
  }

  #call(what: Call, client: Client): void {
    const app = client instanceof AppClient ? client : undefined;
    if (what === 'send') this.#watch(client.send('lamp', { n: this.#ids }));
    else if (what === 'add' && app) this.#watch(app.addDevice('lamp'));
    else if (what === 'remove' && app) this.#watch(app.removeDevice('lamp'));
    else if (what === 'register' && app) this.#watch(app.register('me', 'pw'));
    else if (what === 'devices' && app) this.#watch(this.#list(app));
    else if (what === 'stop') this.#stopListening?.();
    else if (what === 'listen') {
      this.#stopListening?.();
      this.#stopListening = client.onMessage((message) => this.#take(message));
    }
  }

  async #list(app: AppClient): Promise<void> {
    let pages = 0;
    for await (const device of app.devices()) {
      expect(typeof device.deviceId === 'string', () => 'a device without an id');
      if (++pages > 2_000) return;
    }
  }

  #take(message: Message): void {
    this.handed++;
    this.#handedBytes += message.json.length;
    // It was valid JSON, or was never handed out.
    JSON.stringify(message.msg);
  }

  /** Whatever becomes of it, it is an error of the package. */
  #watch(promise: Promise<unknown>): void {
    this.#open++;
    promise.then(
      () => {
        this.#open--;
      },
      (error: unknown) => {
        this.#open--;
        if (!(error instanceof HawserError)) this.#faults.push(error);
      },
    );
  }

  // ---- the server

  #frame({ cmd: number, id, text, hex, secret }: ServerStep & { do: 'frame' }): Uint8Array {
    const data = hex === undefined ? encodeText(text ?? '') : new Uint8Array(Buffer.from(hex, 'hex'));
    const msgId = id.startsWith('@') ? (this.#asked.get(Number(id.slice(1))) ?? '') : id;
    if (secret !== true || data.length === 0 || this.#cipher === undefined) {
      return encodeFrame(number, msgId, secret === true, data);
    }
    const room = new Uint8Array(data.length + 16);
    room.set(data);
    return encodeFrame(number, msgId, true, this.#cipher.encrypt(room, 0, data.length));
  }

  #receive(bytes: Uint8Array): void {
    const events = this.#events;
    if (events === undefined) return;
    const at = this.#random.below(bytes.length + 1);
    this.#guard(() => {
      if (this.#events === events && at > 0) events.received(bytes.subarray(0, at));
      if (this.#events === events && at < bytes.length) events.received(bytes.subarray(at));
    });
  }

  #guard(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#faults.push(error);
    }
  }

  #wrote(bytes: Uint8Array): void {
    this.#cutter.push(bytes);
    for (;;) {
      const body = this.#cutter.next(wireLimits.frameBytesMax);
      if (body === undefined) return;
      const frame = body === 'too long' ? undefined : decodeEnvelope(body);
      if (frame === undefined) {
        this.#faults.push(new Error('the client wrote what is no frame'));
        return;
      }
      this.#asked.set(frame.cmd, frame.msgId);
    }
  }

  #ports(hasKey: boolean): Ports {
    return {
      time: this.#time,
      random: { fraction: () => this.#random.next(), id: () => `id-${++this.#ids}` },
      transport: {
        agreesOnKey: hasKey,
        connect: (_, events) => {
          this.#cutter = new FrameCutter();
          this.#events = events;
          this.#time.after(0, () => {
            if (this.#events === events) events.opened();
          });
          const gone = (): void => {
            if (this.#events === events) this.#events = undefined;
          };
          return { write: (bytes) => this.#wrote(bytes), end: gone, destroy: gone };
        },
      },
      locate: () => Promise.resolve({ host: 'server', port: 8888 }),
      keys: {
        agree: (serverKey) => {
          if (serverKey.length !== SERVER_KEY_BYTES) throw new Error('no key');
          const secret = fakeSecret(this.#random);
          this.#cipher = new FakeCipher(secret);
          return { secret: fakeCiphertext(secret, this.#random), cipher: new FakeCipher(secret) };
        },
      },
      report: (error) => this.#reports.push(error),
    };
  }
}

function flood({
  count,
  bytes,
  id,
}: {
  readonly count: number;
  readonly bytes: number;
  readonly id: string;
}): Uint8Array {
  const msg = 'x'.repeat(bytes);
  const messages = Array.from({ length: count }, (_, i) => ({ from: 'ann', to: 'me', msg, msgid: `${id}${i}` }));
  return encodeFrame(cmd.push, '', false, encodeText(JSON.stringify(messages)));
}
