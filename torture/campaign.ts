import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Random } from '../sim/random.ts';
import { rules } from '../sim/rules.ts';
import { Trace } from '../sim/trace.ts';
import { BUG_VARIABLE } from './bugged.ts';
import { Folder } from './disk.ts';
import { Fleet } from './fleet.ts';
import { drawPlan, type Fault } from './plan.ts';
import { Process } from './process.ts';
import { HostileProxy } from './proxy.ts';

export interface CampaignOptions {
  readonly seed: number;
  readonly clients: number;
  readonly faults: readonly Fault[];
  readonly bug: string | undefined;
}

const DRAIN_MS = 90_000;
/** Everybody is there, and nothing has come for so long: nothing more will. */
const STALL_MS = 6000;
/** What comes after all is drained would be too much. */
const QUIET_MS = 300;
const LOOK_MS = 50;
const TRACED = 300_000;

/** A server on a folder of its own, and clients with one history, over some rounds. */
export class Campaign {
  readonly fleet: Fleet;
  readonly proxy: HostileProxy;
  readonly process: Process;
  /** Messages neither acked nor refused when the server ended. */
  unknown = 0;
  readonly #options: CampaignOptions;
  readonly #trace = new Trace(() => performance.now(), TRACED);
  readonly #folder: Folder;
  #watch: NodeJS.Timeout | undefined;

  constructor(options: CampaignOptions) {
    const random = new Random(options.seed);
    this.#options = options;
    this.#folder = new Folder(options.faults.includes('disk') && random.chance(0.5));
    this.proxy = new HostileProxy(new Random(options.seed, 3));
    this.fleet = new Fleet(
      options.seed,
      options.clients,
      () => ({ port: this.proxy.port, isVoid: () => false }),
      this.#trace,
    );
    const bugged = pathToFileURL(join(import.meta.dirname, 'bugged.ts')).href;
    const { bug } = options;
    this.process = new Process(this.#folder, {
      // Inboxes that are never full: what nobody was pushed then was lost.
      args: [
        '--persist-after',
        String(random.pick([5, 25, 25, 300])),
        '--inbox-messages',
        '5000000',
        '--inbox-bytes',
        '4000000000',
      ],
      env: bug === undefined ? {} : { NODE_OPTIONS: `--import=${bugged}`, [BUG_VARIABLE]: bug },
      witness: this.fleet.witness,
      onReady: (port) => {
        this.proxy.target = port;
      },
      onEnd: () => {
        this.unknown += this.fleet.unanswered;
      },
    });
  }

  get witness(): Fleet['witness'] {
    return this.fleet.witness;
  }

  async open(): Promise<void> {
    await this.process.start();
    await this.proxy.listen();
    await this.fleet.enter(this.process.server);
    this.fleet.start();
    this.#watch = setInterval(() => this.process.look(), LOOK_MS);
  }

  /** One round of trouble, after which all is well and everything must be delivered. Returns what happened. */
  async round(number: number): Promise<string> {
    try {
      return await this.#round(number);
    } catch (error) {
      // A server that does not come up again, most of all.
      this.witness.broken('server error', error instanceof Error ? (error.stack ?? error.message) : String(error));
      return 'failed';
    }
  }

  async #round(number: number): Promise<string> {
    const random = new Random(this.#options.seed, 1000 + number);
    const { faults } = this.#options;
    const plan = drawPlan(random, faults[number % faults.length]!);
    this.#trace.note('phase', number, -1, plan.fault);
    this.fleet.disturb(random);
    this.fleet.messagesPerSecond = plan.messagesPerSecond;
    this.proxy.disturb(plan.proxy);
    const before = this.fleet.messages.all.length;
    await sleep(plan.floodMs);
    const perSecond = Math.round(((this.fleet.messages.all.length - before) * 1000) / plan.floodMs);
    const what = await this.process.suffer(plan);
    await this.#mend();
    return `flooded with ${perSecond}/s, ${what}`;
  }

  // ---- all is well

  async #mend(): Promise<void> {
    this.proxy.heal();
    this.fleet.mend();
    this.#trace.note('phase', -1, -1, 'all is well');
    const isDrained = await this.fleet.drained(DRAIN_MS, STALL_MS);
    if (isDrained) await sleep(QUIET_MS);
    else this.#judge();
  }

  #judge(): void {
    const { witness } = this;
    if (witness.hasFailed) return;
    witness.checkDelivered();
    for (const { party, pending, isOnline } of this.fleet.clients) {
      if (!isOnline) witness.broken('not drained', `${party.name} could not come back`);
      for (const { message } of pending.values()) witness.broken('no answer', `${message} was not answered`, message);
    }
    if (!witness.hasFailed) witness.broken('not drained', 'acks of what was delivered are not counted');
  }

  /** Nothing is left in inboxes; the server stops as it should. */
  async close(): Promise<void> {
    clearInterval(this.#watch);
    if (!this.witness.hasFailed) {
      this.witness.checkDelivered();
      this.#checkEmpty();
      await this.process.stop();
    } else await this.process.server.kill9();
    this.fleet.close();
    this.proxy.close();
  }

  #checkEmpty(): void {
    const main = join(import.meta.dirname, '..', 'packages', 'cli', 'src', 'main.ts');
    const args = [main, 'inbox', 'list', '--json', '--data', this.#folder.data];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    if (status !== 0) this.witness.broken('server error', `hawser inbox list: ${stderr}`);
    else if (stdout.trim() !== '') this.witness.broken('not drained', `inboxes hold ${stdout.trim()}`);
  }

  /** What went wrong, and where the rest of it lies. Call it after `close`. */
  explain(): string {
    const { violations } = this.witness;
    const [first] = violations;
    if (first === undefined) return '';
    const kept = this.#folder.keep({
      'server.log': `${this.process.server.logs().join('\n')}\n`,
      'trace.txt': `${this.#trace.lines(TRACED).join('\n')}\n`,
    });
    return [
      ...this.#trace
        .lines(60, first.message?.id)
        .filter((line) => first.message !== undefined || line.includes('server')),
      ...violations.slice(0, 5).map(({ at, rule, text }) => `✖ ${(at / 1000).toFixed(3)} ${rule}: ${text}`),
      `  the page says: ${rules[first.rule]}`,
      `  kept: ${kept} (the data folder, server.log, trace.txt)`,
    ].join('\n');
  }

  remove(): void {
    this.#folder.remove();
  }
}
