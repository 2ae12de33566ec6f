import { type Envelope, isKeyLength, OK_BODY, wireLimits } from '@hawser/protocol';
import { Busy } from '../ports.ts';
import type { Session } from '../session.ts';

/** cmd 2: the client's AES key, once per connection. */
export function clientKey(session: Session, request: Envelope): Promise<void> | undefined {
  const key = session.serverKey;
  if (key === undefined) {
    session.refuse(request, 'keyAlreadySent');
    return undefined;
  }
  session.serverKey = undefined;
  if (request.data.length !== wireLimits.rsaModulusBits / 8 || !session.services.keyring.serves(key)) {
    session.refuse(request, 'unusableKey');
    return undefined;
  }
  if (!session.services.admission.mayExchangeKeys(session.place.key)) {
    session.refuse(request, 'busy');
    return undefined;
  }
  return agree();

  async function agree(): Promise<void> {
    const secret = await decrypted();
    if (session.isClosed) return;
    if (secret === 'busy') session.refuse(request, 'busy');
    else if (secret === undefined || !isKeyLength(secret.length) || !key?.acceptOnce(request.data)) {
      session.refuse(request, 'unusableKey');
    } else {
      session.cipher = session.services.createCipher(secret);
      session.answer(request, OK_BODY);
    }
  }

  async function decrypted(): Promise<Uint8Array | 'busy' | undefined> {
    try {
      return await key?.decrypt(request.data, session);
    } catch (error) {
      // A number beyond the modulus, for one: as good as any other wrong ciphertext.
      return error instanceof Busy ? 'busy' : undefined;
    }
  }
}
