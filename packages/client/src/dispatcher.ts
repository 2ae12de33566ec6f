import { clientLimits, code } from '@hawser/protocol';
import { type Address, CertificateError, DispatcherError, type Locate } from './core/index.ts';

/** Gives the body of an answer, which it does not read beyond `dispatcherAnswerBytesMax`. */
export type Ask = (question: URL, signal: AbortSignal) => Promise<string>;

/** What else there is to know of a dispatcher. */
export interface Asking {
  /** Ask for a server that speaks TLS. */
  readonly overTls?: boolean | undefined;
  /** Default: `fetch`. */
  readonly ask?: Ask | undefined;
}

/** Asks the dispatcher at `url` which server to use (PROTOCOL, "Finding a server"). */
export function dispatcher(url: URL, { overTls = false, ask = askByFetch }: Asking = {}): Locate {
  return async (id, signal) => {
    const question = new URL(url);
    question.searchParams.set('id', id);
    if (overTls) question.searchParams.set('tls', '1');
    return addressIn(await answerTo(question, signal, ask), overTls);
  };
}

async function answerTo(question: URL, signal: AbortSignal, ask: Ask): Promise<string> {
  try {
    return await ask(question, signal);
  } catch (cause) {
    if (cause instanceof CertificateError) throw cause;
    throw new DispatcherError(`the dispatcher at ${question.origin} does not answer`, undefined, { cause });
  }
}

async function askByFetch(question: URL, signal: AbortSignal): Promise<string> {
  return textOf(await fetch(question, { signal, cache: 'no-store' }));
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

function addressIn(text: string, overTls: boolean): Address {
  let answer: { code?: unknown; msg?: unknown; ip?: unknown; port?: unknown; tls?: unknown } | null;
  try {
    answer = JSON.parse(text) as typeof answer;
  } catch (cause) {
    throw new DispatcherError('the answer of the dispatcher is not JSON', undefined, { cause });
  }
  if (answer?.code === code.noServer) {
    throw new DispatcherError(`no server is available${overTls ? ' over TLS' : ''}`, code.noServer);
  }
  if (answer?.code !== code.ok) {
    const number = typeof answer?.code === 'number' ? answer.code : undefined;
    throw new DispatcherError(`the dispatcher answers: ${String(answer?.msg)} (code ${String(number)})`, number);
  }
  const { ip, port, tls } = answer;
  // One that does not know the question names a port for TCP.
  if (overTls && tls !== true) throw new DispatcherError('the dispatcher knows of no server over TLS');
  const isPort = typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536;
  if (typeof ip !== 'string' || ip === '' || !isPort) {
    throw new DispatcherError('the dispatcher answers with an address that is none');
  }
  return { host: ip, port };
}
