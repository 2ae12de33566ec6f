import type { Violation } from '../sim/rules.ts';
import type { Campaign } from './campaign.ts';

/** What clients sent and saw, up to a moment. */
interface Seen {
  readonly sent: number;
  readonly acked: number;
  readonly refused: number;
  /** Neither acked nor refused when the server ended. */
  readonly unknown: number;
  readonly received: number;
  /** Of those, the ones that had come before, as the page allows. */
  readonly again: number;
}

/** Counts over all rounds. */
export class Totals {
  rounds = 0;
  readonly #began = performance.now();
  readonly #sums = new Map<string, number>();
  readonly #violations: Violation[] = [];

  seen({ witness, fleet, unknown }: Campaign): Seen {
    return {
      sent: fleet.messages.all.length,
      acked: witness.counts.acked,
      refused: witness.figures.refused,
      unknown,
      received: witness.figures.pushed,
      again: witness.counts.again,
    };
  }

  /** What was seen since. */
  line(campaign: Campaign, before: Seen): string {
    const now = this.seen(campaign);
    return (Object.keys(now) as (keyof Seen)[]).map((name) => `${now[name] - before[name]} ${name}`).join(', ');
  }

  /** A campaign has ended. */
  add(campaign: Campaign): void {
    const { witness, proxy, process } = campaign;
    const all = {
      ...this.seen(campaign),
      connections: witness.counts.connections,
      takeovers: witness.counts.superseded,
      'breakages by the proxy': proxy.counts.breakages,
      ...process.counts,
    };
    for (const [name, count] of Object.entries(all)) this.#sums.set(name, (this.#sums.get(name) ?? 0) + count);
    this.#violations.push(...witness.violations);
  }

  text(): string {
    const seconds = ((performance.now() - this.#began) / 1000).toFixed(0);
    const broken = (rule: Violation['rule']): number => this.#violations.filter((each) => each.rule === rule).length;
    const lines = [...this.#sums].filter(([, count]) => count > 0).map(([name, count]) => `  ${name}: ${count}`);
    const violations = `lost = ${broken('lost')}, out of order = ${broken('order')}, all violations = ${this.#violations.length}`;
    return [`${this.rounds} rounds in ${seconds} s`, ...lines, violations].join('\n');
  }
}
