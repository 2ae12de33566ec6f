import { type Envelope, Fault, readAcks } from '@hawser/protocol';
import type { Session } from '../session.ts';

/** cmd 201 from a receiver: it has these messages. */
export function ack(session: Session, request: Envelope): undefined {
  const ids = readAcks(request.data);
  if (ids instanceof Fault) {
    session.error(request, 'badAck');
    return;
  }
  const mailbox = session.login?.mailbox;
  for (const id of ids) mailbox?.ack(id);
}
