// What the heartbeat of an idle connection costs, each by itself as they come from devices that are not in step.
import { setTimeout as sleep } from 'node:timers/promises';
import { type Job, type Outcome, until } from './job.ts';
import type { Link, LinkOwner } from './link.ts';
import { cpuMs } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { CMD, type Keys } from './wire.ts';

const CONNECTIONS = 1000;
const PER_SECOND = 5000;
const SETUP_PARALLEL = 16;
const SETTLE_TIMEOUT_MS = 5000;

class Answers implements LinkOwner {
  readonly violations: string[] = [];
  count = 0;

  ready(): void {}

  frame(_link: Link, _bytes: Buffer, { cmd }: { readonly cmd: number }): void {
    if (cmd === CMD.heartbeat) this.count++;
    else this.violations.push(`cmd ${cmd} answered a heartbeat`);
  }

  closed(link: Link, reason: string): void {
    if (reason !== '') this.violations.push(`connection ${link.slot}: ${reason}`);
  }
}

export async function heartbeats(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  const links = await inParallel(CONNECTIONS, SETUP_PARALLEL, (i) => setup.device(`device-${i}`, i));
  const answers = new Answers();
  for (const link of links) link.owner = answers;
  let sent = 0;
  const pace = async (ms: number): Promise<void> => {
    const [startMs, before] = [performance.now(), sent];
    for (let passedMs = 0; passedMs < ms; passedMs = performance.now() - startMs) {
      const due = before + (passedMs * PER_SECOND) / 1000;
      for (; sent < due; sent++) links[sent % CONNECTIONS]!.send(CMD.heartbeat, '', null);
      await sleep(1);
    }
    await until(() => answers.count === sent, SETTLE_TIMEOUT_MS);
  };
  await pace(job.warmUpMs);
  const start = { cpuMs: cpuMs(job.pid), sent, atMs: performance.now() };
  await pace(job.measureMs);
  const [usedMs, count] = [cpuMs(job.pid) - start.cpuMs, sent - start.sent];
  const seconds = (performance.now() - start.atMs) / 1000;
  const violations = [...answers.violations];
  if (answers.count !== sent) violations.push(`${sent} heartbeats, ${answers.count} answers`);
  for (const link of links) link.close();
  return { figures: { cpuUsPerHeartbeat: (usedMs * 1000) / count, heartbeatsPerSecond: count / seconds }, violations };
}
