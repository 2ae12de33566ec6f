import { serverLimits } from '@hawser/protocol';
import { type NodeRow, type Nodes, OperatorError, SettingError, watchNodes } from '@hawser/server';
import { Command, InvalidArgumentError } from 'commander';
import { print, table, visible } from '../output.ts';
import { Progress } from '../progress.ts';
import { addSettings, type GivenOptions, readOneOf } from './options.ts';

/** An order that does not show after so many looks at the nodes has not been heard. */
const LOOKS_MAX = 30;

/** `hawser node …` */
export function node(): Command {
  return new Command('node').description('nodes of a cluster: list, drain').addCommand(list()).addCommand(drain());
}

function list(): Command {
  const command = new Command('list').description('list nodes').option('--json', 'one JSON object a line');
  return addSettings(command, ['redis']).action(async (options: GivenOptions & { json?: true }) => {
    using nodes = await nodesOf(options);
    const rows = await nodes.list();
    if (options.json === true) for (const row of rows) print(JSON.stringify(row));
    else
      print(table(['NODE', 'SESSIONS', 'CONNECTIONS', 'MSG/S', 'LAG', 'VERSION', 'ADDRESS', 'STATE'], rows.map(cells)));
  });
}

function cells(row: NodeRow): string[] {
  return [
    row.node,
    String(row.sessions),
    `${row.connections} of ${row.connectionsMax}`,
    String(row.messagesPerSecond),
    `${row.lagMs} ms`,
    row.version,
    row.address,
    row.isDraining ? 'draining' : 'serving',
  ];
}

type DrainOptions = GivenOptions & { readonly rate: number; readonly undo?: true };

function drain(): Command {
  const command = new Command('drain')
    .argument('<name>')
    .description('have others take the clients of a node: it is offered to nobody, then its sessions are closed')
    .option('--rate <N/s>', 'sessions closed in a second', readRate, serverLimits.drainPerSecond)
    .option('--undo', 'have it take clients again');
  return addSettings(command, ['redis']).action(async (name: string, options: DrainOptions) => {
    using nodes = await nodesOf(options);
    const all = await nodes.list();
    const runs = all.filter((row) => row.node === name);
    if (runs.length === 0) throw new OperatorError(`there is no node ${JSON.stringify(name)}: see "hawser node list"`);
    if (options.undo === true) {
      await tell(nodes, name, 'undo');
      print(`${visible(name)} takes clients again.`);
      return;
    }
    if (!all.some((row) => row.node !== name && !row.isDraining)) {
      throw new OperatorError(`no other node would take the clients of ${JSON.stringify(name)}`);
    }
    await tell(nodes, name, { drainPerSecond: options.rate });
    await watch(nodes, name);
  });
}

/** Has all runs of a node do something, and waits until they show it. */
async function tell(nodes: Nodes, name: string, order: Parameters<Nodes['order']>[1]): Promise<void> {
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    const rows = (await nodes.list()).filter((row) => row.node === name);
    const isOpen = ({ isDraining }: NodeRow): boolean => isDraining === (order === 'undo');
    // Also where it drains already: the rate may be another.
    if (looks > 0 && !rows.some(isOpen)) return;
    for (const { run } of rows) await nodes.order(run, order);
  }
  throw new OperatorError(`${JSON.stringify(name)} does not do so: its log may say why`);
}

/** Shows how many sessions are gone, until all are. */
async function watch(nodes: Nodes, name: string): Promise<void> {
  const progress = new Progress('drain', 'sessions');
  let most = 0;
  try {
    for (;;) {
      const rows = (await nodes.list()).filter((row) => row.node === name);
      const left = rows.reduce((sum, { sessions }) => sum + sessions, 0);
      most = Math.max(most, left);
      progress.count(most - left, most);
      if (rows.length === 0 || left === 0) {
        progress.end();
        const ended = rows.length === 0;
        print(
          ended ? `${visible(name)} has ended.` : `${visible(name)} has no sessions, and takes no clients: stop it.`,
        );
        return;
      }
      if (rows.every(({ isDraining }) => !isDraining)) throw new OperatorError('it is drained no longer');
    }
  } finally {
    progress.end();
  }
}

function nodesOf(options: GivenOptions): Promise<Nodes> {
  const redis = readOneOf('redis', options);
  if (redis === undefined) throw new SettingError('--redis URL says where the nodes are found');
  return watchNodes(redis);
}

/** `500/s`, or `500`. */
function readRate(text: string): number {
  const rate = Number(/^(\d{1,6})(\/s)?$/.exec(text)?.[1] ?? 0);
  if (rate >= 1) return rate;
  throw new InvalidArgumentError('It must be sessions in a second, such as 500/s.');
}
