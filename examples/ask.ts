// A question to a device, and its answer or a timeout: request and response over messages.
//
//     node ask.ts USER PASSWORD DEVICE QUESTION [TIMEOUT_MS] [DISPATCHER]

import { randomUUID } from 'node:crypto';
import { App, RefusedError } from '@hawser/client';

const [user = '', password = '', device = '', question = '', timeout = '5000', dispatcher = 'http://127.0.0.1:9999'] =
  process.argv.slice(2);
const app = new App({ dispatcher });
const waiting = new Map<string, (answer: object) => void>();

app.onMessage<{ re?: string } | null>(({ from, msg }) => {
  // Others may write to this user too: only who was asked can answer. What comes too late is for nobody.
  if (msg?.re !== undefined) waiting.get(`${from} ${msg.re}`)?.(msg);
});

/** Rejects when no answer has come in time, or the question could not be sent. */
async function ask(to: string, text: string, timeoutMs: number): Promise<object> {
  const id = randomUUID();
  let timer: NodeJS.Timeout | undefined;
  const answer = new Promise<object>((resolve, reject) => {
    waiting.set(`${to} ${id}`, resolve);
    timer = setTimeout(() => reject(new Error(`${to} has not answered within ${timeoutMs} ms`)), timeoutMs);
  });
  // The server drops the question when nobody waits for the answer any more.
  const sent = app.send(to, { id, ask: text }, { timeoutMs, ttl: Math.ceil(timeoutMs / 1000) });
  try {
    return (await Promise.all([answer, sent]))[0];
  } finally {
    clearTimeout(timer);
    waiting.delete(`${to} ${id}`);
  }
}

/** For what is fine when it is so already. */
function unless(code: number): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof RefusedError && error.code === code)) throw error;
  };
}

await app.register(user, password).catch(unless(1001));
await app.login(user, password);
await app.addDevice(device).catch(unless(2001));
try {
  console.log(JSON.stringify(await ask(device, question, Number(timeout))));
} catch (error) {
  console.error(String(error));
  process.exitCode = 1;
}
app.close();
