import { parentPort } from 'node:worker_threads';
import { bugNamed } from './bugs.ts';
import { type RunSummary, summary } from './figures.ts';
import { simulate } from './simulation.ts';

export interface Job {
  readonly seed: number;
  readonly minutes: number | undefined;
  readonly clients: number | undefined;
  readonly nodes: number | undefined;
  readonly sdk: boolean | undefined;
  readonly war?: boolean | undefined;
  readonly bug: string | undefined;
}

parentPort?.on('message', ({ seed, minutes, clients, nodes, sdk, war, bug }: Job) => {
  void simulate({ seed, minutes, clients, nodes, sdk, war, bug: bug === undefined ? undefined : bugNamed(bug) }).then(
    (outcome) => {
      parentPort?.postMessage(summary(outcome) satisfies RunSummary);
    },
  );
});
