import { clientLimits, code } from '@hawser/protocol';
import { type Address, DispatcherError, type Locate } from './core/index.ts';

/** Asks the dispatcher at `url` which server to use (PROTOCOL, "Finding a server"). */
export function dispatcher(url: URL): Locate {
  return async (id, signal) => {
    const question = new URL(url);
    question.searchParams.set('id', id);
    return addressIn(await ask(question, signal));
  };
}

async function ask(question: URL, signal: AbortSignal): Promise<string> {
  try {
    const response = await fetch(question, { signal, cache: 'no-store' });
    return await textOf(response);
  } catch (cause) {
    throw new DispatcherError(`the dispatcher at ${question.origin} does not answer`, undefined, { cause });
  }
}

/** The body, which is not read beyond its bound. */
async function textOf(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = '';
  for (;;) {
    const read = await reader?.read();
    if (read === undefined || read.done) return text;
    text += decoder.decode(read.value, { stream: true });
    if (text.length > clientLimits.dispatcherAnswerBytesMax) {
      await reader?.cancel();
      throw new Error('the answer is too long');
    }
  }
}

function addressIn(text: string): Address {
  let answer: { code?: unknown; msg?: unknown; ip?: unknown; port?: unknown } | null;
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch (cause) {
    throw new DispatcherError('the answer of the dispatcher is not JSON', undefined, { cause });
  }
  if (answer?.code === code.noServer) throw new DispatcherError('no server is available', code.noServer);
  if (answer?.code !== code.ok) {
    const number = typeof answer?.code === 'number' ? answer.code : undefined;
    throw new DispatcherError(`the dispatcher answers: ${String(answer?.msg)} (code ${String(number)})`, number);
  }
  const { ip, port } = answer;
  const isPort = typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536;
  if (typeof ip !== 'string' || ip === '' || !isPort) {
    throw new DispatcherError('the dispatcher answers with an address that is none');
  }
  return { host: ip, port };
}
