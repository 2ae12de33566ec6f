import type { Envelope } from '@hawser/protocol';
import type { Session } from '../session.ts';

const EMPTY = new Uint8Array(0);

/** cmd 0: answered the same, empty. */
export function heartbeat(session: Session, request: Envelope): undefined {
  session.answer(request, EMPTY);
}
