import type { Outcome } from './simulation.ts';

/** What a run came to, as far as it can be sent between threads. */
export interface RunSummary {
  readonly seed: number;
  readonly hash: string;
  readonly violations: readonly string[];
  readonly simulatedMs: number;
  readonly events: number;
  readonly messages: number;
  readonly acked: number;
  readonly pushed: number;
  /** Clients that were told of a newer login. */
  readonly conflicts: number;
  readonly crashes: number;
  readonly stops: number;
}

export function summary(outcome: Outcome): RunSummary {
  const { seed, hash, simulatedMs, events, messages, crashes, stops, figures } = outcome;
  const violations = outcome.violations.map(({ at, rule, text }) => `${(at / 1000).toFixed(4)} ${rule}: ${text}`);
  const { acked, pushed, conflicts } = figures;
  return { seed, hash, violations, simulatedMs, events, messages, acked, pushed, conflicts, crashes, stops };
}

/** The sums over many runs. */
export class Figures {
  seeds = 0;
  failed = 0;
  #simulatedMs = 0;
  #events = 0;
  #messages = 0;
  #acked = 0;
  #pushed = 0;
  #crashes = 0;
  #stops = 0;

  add(run: RunSummary): void {
    this.seeds++;
    if (run.violations.length > 0) this.failed++;
    this.#simulatedMs += run.simulatedMs;
    this.#events += run.events;
    this.#messages += run.messages;
    this.#acked += run.acked;
    this.#pushed += run.pushed;
    this.#crashes += run.crashes;
    this.#stops += run.stops;
  }

  text(seconds: number): string {
    const hours = this.#simulatedMs / 3_600_000;
    return [
      `${this.seeds} seeds, ${this.failed} failed`,
      `${hours.toFixed(1)} simulated hours: ${Math.round(this.#simulatedMs / 1000 / seconds)} times as fast as real time`,
      `${(this.seeds / seconds).toFixed(1)} seeds/s, ${Math.round(this.#events / seconds)} events/s`,
      `${this.#messages} messages, ${this.#acked} acks, ${this.#pushed} pushes`,
      `${this.#crashes} crashes, ${this.#stops} clean stops`,
    ].join('\n');
  }
}
