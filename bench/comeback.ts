// A thousand people's apps that come back at once to a server that has just been started, each as the client's package does.
import { App } from '@hawser/client';
import { type Job, type Outcome, until } from './job.ts';
import { cpuMs } from './sampling.ts';
import { inParallel, Setup } from './setup.ts';
import { CMD, type Keys } from './wire.ts';

const APPS = 1000;
const REGISTER_PARALLEL = 16;
const PASSWORD = 'password';
/** As the package sends it. */
const PASSWORD_MD5 = '5f4dcc3b5aa765d61d8327deb882cf99';
const TIMEOUT_MS = 300_000;

const nameOf = (i: number): string => `comeback-${i}`;

/** The people, before the restart. */
export async function people(job: Job, keys: Keys): Promise<Outcome> {
  const setup = new Setup(job.endpoint, keys);
  await inParallel(APPS, REGISTER_PARALLEL, async (i) => {
    const link = await setup.open(i);
    await setup.ask(link, CMD.register, { username: nameOf(i), password: PASSWORD_MD5 });
    link.close();
  });
  return { figures: {}, violations: [] };
}

export async function comeback(job: Job): Promise<Outcome> {
  const backMs: number[] = [];
  const violations: string[] = [];
  let attempts = 0;
  let online = 0;
  const start = { atMs: performance.now(), cpuMs: cpuMs(job.pid) };
  const apps = Array.from({ length: APPS }, (_, i) => {
    const app = new App({ server: job.endpoint });
    app.onState(({ phase }) => {
      if (phase === 'connecting') attempts++;
    });
    app.login(nameOf(i), PASSWORD, { timeoutMs: Number.POSITIVE_INFINITY }).then(
      () => {
        online++;
        backMs.push(performance.now() - start.atMs);
      },
      (error: unknown) => violations.push(`an app gave up: ${error}`),
    );
    return app;
  });
  if (!(await until(() => online === APPS || violations.length > 0, TIMEOUT_MS))) {
    violations.push(`${online} of ${APPS} apps were back after ${TIMEOUT_MS / 1000} s`);
  }
  const usedMs = cpuMs(job.pid) - start.cpuMs;
  const seconds = (performance.now() - start.atMs) / 1000;
  for (const app of apps) app.close();
  return {
    figures: {
      backSeconds: seconds,
      backP50Seconds: (backMs[APPS / 2] ?? 0) / 1000,
      backPerSecond: APPS / seconds,
      attemptsPerApp: attempts / APPS,
      cpuMsPerApp: usedMs / APPS,
    },
    violations,
  };
}
