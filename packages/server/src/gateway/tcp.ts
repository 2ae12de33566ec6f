import type { Core } from '../core/core.ts';
import { type Gateway, type Listen, listen } from './listener.ts';
import { serve } from './socket.ts';

/** Listens for clients and gives each connection to the core. Rejects when it cannot listen. */
export function listenTcp(core: Core, where: Listen): Promise<Gateway> {
  return listen(core, where, (socket, origin, place) => {
    serve(core, socket, { ...origin, certifiedName: undefined }, place);
    // It was paused where a header was taken from it.
    socket.resume();
  });
}
