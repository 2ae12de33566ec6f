import { get } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { clientLimits } from '@hawser/protocol';
import type { Ask } from './dispatcher.ts';
import { certificateFault } from './transports/certificate-fault.ts';
import type { TlsOptions } from './transports/tls.ts';

/** Asks over HTTPS with options for TLS, which `fetch` does not take. */
export function askOverTls({ servername: _ofTheServer, ...options }: TlsOptions): Ask {
  return (question, signal) =>
    new Promise((resolve, reject) => {
      const request = get(question, { ...options, signal, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
          if (text.length > clientLimits.dispatcherAnswerBytesMax) request.destroy(new Error('the answer is too long'));
        });
        response.once('end', () => resolve(text));
        response.once('error', reject);
      });
      request.once('error', (error) => {
        reject(certificateFault(request.socket as TLSSocket | null, error, question.host) ?? error);
      });
    });
}
