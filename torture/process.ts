import { setTimeout as sleep } from 'node:timers/promises';
import { Server } from '../test/harness.ts';
import { type Folder, limitFiles } from './disk.ts';
import type { RoundPlan } from './plan.ts';
import type { Witness } from './witness.ts';

/** What befell the server. */
export interface Counts {
  kills: number;
  'kills at its start': number;
  'kills before it is ready': number;
  'kills while it pages backlogs': number;
  'kills while frozen': number;
  'kills while it stops': number;
  freezes: number;
  'full disks': number;
  'ends on a full disk': number;
  stops: number;
}

/** How long a server on a full disk is given to notice. */
const FULL_MS = 20_000;
/** Before backlogs come, if anybody has one. */
const PAGES_MS = 2000;

export interface ProcessOptions {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly witness: Witness;
  /** It is ready, on another port than before. */
  readonly onReady: (port: number) => void;
  /** It is about to end without an answer to what was sent. */
  readonly onEnd: () => void;
}

/** A server that is started, killed, frozen, stopped and put on a full disk; the witness is told of each. */
export class Process {
  readonly counts: Counts = {
    kills: 0,
    'kills at its start': 0,
    'kills before it is ready': 0,
    'kills while it pages backlogs': 0,
    'kills while frozen': 0,
    'kills while it stops': 0,
    freezes: 0,
    'full disks': 0,
    'ends on a full disk': 0,
    stops: 0,
  };
  readonly server: Server;
  readonly #options: ProcessOptions;
  readonly #folder: Folder;
  #isUp = false;
  #mayFail = false;
  /** How long the last start took. */
  #startMs = 500;
  /** What it logged is looked at up to here. */
  #linesSeen = 0;

  constructor(folder: Folder, options: ProcessOptions) {
    this.#folder = folder;
    this.#options = options;
    this.server = new Server(folder.data, { args: options.args, env: options.env });
  }

  async start(): Promise<void> {
    const began = performance.now();
    this.#options.witness.serverStarted();
    await this.server.start();
    this.#startMs = performance.now() - began;
    this.#isUp = true;
    this.#options.onReady(this.server.port);
  }

  async kill(kind: keyof Counts = 'kills'): Promise<void> {
    this.look();
    this.#isUp = false;
    this.counts[kind]++;
    this.#options.onEnd();
    await this.server.kill9();
    this.#options.witness.serverEnded('crash');
  }

  async stop(): Promise<void> {
    this.look();
    this.#isUp = false;
    this.counts.stops++;
    const code = await this.server.stop();
    const { witness } = this.#options;
    witness.serverEnded('stop');
    if (code !== 0) witness.broken('server error', `asked to stop, the server ended with exit code ${code}`);
  }

  /** Whether it runs as it should, and complains of nothing. */
  look(): void {
    const { witness } = this.#options;
    const lines = this.server.logs();
    for (const line of lines.slice(this.#linesSeen)) {
      const level = /"level":(\d+)/.exec(line)?.[1] ?? '60';
      const isBad = Number(level) >= 50 || line.includes('damaged');
      if (isBad && !this.#mayFail) witness.broken('server error', line);
    }
    this.#linesSeen = lines.length;
    if (!this.#isUp || this.#mayFail || this.server.alive) return;
    this.#isUp = false;
    witness.broken('server error', 'the server ended by itself');
  }

  /** What a plan says, after which it runs. Returns what happened. */
  async suffer(plan: RoundPlan): Promise<string> {
    switch (plan.fault) {
      case 'kill':
        await this.kill();
        await this.start();
        return 'killed';
      case 'recovery':
        return this.#sufferRecovery(plan);
      case 'freeze':
        return this.#sufferFreeze(plan);
      case 'disk':
        return this.#sufferFullDisk(plan);
      case 'stop':
        return this.#sufferStop(plan);
    }
  }

  async #sufferRecovery(plan: RoundPlan): Promise<string> {
    await this.kill();
    const killed: string[] = [];
    for (const moment of plan.moments) {
      const kind = await this.#killAgain(moment);
      killed.push(`${kind.replace('kills ', '')} +${Math.round(moment.after)}`);
    }
    await this.start();
    return `killed, then ${killed.join(', ')}`;
  }

  async #killAgain({ moment, after }: RoundPlan['moments'][number]): Promise<keyof Counts> {
    const { figures } = this.#options.witness;
    const startMs = this.#startMs;
    const pushed = figures.pushed;
    const started = this.start();
    let isReady = false;
    started.then(
      () => {
        isReady = true;
      },
      () => {},
    );
    if (moment === 'before it is ready') await sleep(startMs * after);
    else if (moment === 'while it pages backlogs') {
      await started;
      const until = performance.now() + PAGES_MS;
      while (figures.pushed === pushed && performance.now() < until) await sleep(5);
      await sleep(after);
    } else await sleep(after);
    const kind = isReady
      ? 'kills while it pages backlogs'
      : moment === 'at its start'
        ? 'kills at its start'
        : 'kills before it is ready';
    await this.kill(kind);
    await started.catch(() => {});
    return kind;
  }

  async #sufferFreeze(plan: RoundPlan): Promise<string> {
    for (const ms of plan.freezes) {
      this.counts.freezes++;
      process.kill(this.server.pid, 'SIGSTOP');
      await sleep(ms);
      if (plan.killsFrozen) break;
      process.kill(this.server.pid, 'SIGCONT');
      await sleep(Math.min(ms, 1000));
    }
    const frozen = `frozen for ${plan.freezes.map((ms) => Math.round(ms)).join(' and ')} ms`;
    if (!plan.killsFrozen) return frozen;
    await this.kill('kills while frozen');
    await this.start();
    return `${frozen}, then killed`;
  }

  async #sufferStop({ stopMs }: RoundPlan): Promise<string> {
    if (stopMs === undefined) await this.stop();
    else {
      this.look();
      this.#isUp = false;
      this.server.mayEnd();
      process.kill(this.server.pid, 'SIGTERM');
      await sleep(stopMs);
      if (this.server.alive) await this.kill('kills while it stops');
      else await this.stop();
    }
    await this.start();
    return stopMs === undefined ? 'stopped' : `asked to stop, ended after ${Math.round(stopMs)} ms`;
  }

  async #sufferFullDisk(plan: RoundPlan): Promise<string> {
    this.counts['full disks']++;
    this.server.mayEnd();
    this.#mayFail = true;
    const byLimit = plan.byLimit || !this.#folder.isSmall;
    if (!byLimit) this.#folder.fill(plan.roomBytes);
    else if (!limitFiles(this.server.pid, plan.roomBytes)) return 'a file-size limit cannot be set here';
    const until = performance.now() + FULL_MS;
    while (this.server.alive && performance.now() < until) await sleep(10);
    const hasEnded = !this.server.alive;
    if (hasEnded) await this.#endOnFullDisk(byLimit);
    else if (byLimit) limitFiles(this.server.pid, 'unlimited');
    this.#folder.makeRoom();
    if (!this.server.alive) await this.start();
    this.look();
    this.#mayFail = false;
    const room = byLimit ? 'files limited to' : 'room for';
    // Where nothing was to be written it goes on as if nothing had happened.
    return `${room} ${plan.roomBytes} bytes, ${hasEnded ? 'it ended' : 'it went on'}`;
  }

  async #endOnFullDisk(byLimit: boolean): Promise<void> {
    const { witness, onEnd } = this.#options;
    this.#isUp = false;
    this.counts['ends on a full disk']++;
    onEnd();
    const code = await this.server.stop();
    witness.serverEnded('crash');
    if (code !== 1) witness.broken('server error', `on a full disk the server ended with exit code ${code}`);
    if (byLimit) return;
    // It may start on a full disk or not; in no case does it lose anything.
    const hasStarted = await this.start().then(
      () => true,
      () => false,
    );
    this.server.mayEnd();
    if (hasStarted) await sleep(500);
    if (this.server.alive) return;
    this.#isUp = false;
    witness.serverEnded('crash');
  }
}
