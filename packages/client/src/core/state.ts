import type { Address } from './ports.ts';

/**
 * What a client is doing:
 *
 *     offline ──login──▶ locating ─▶ connecting ─▶ logging in ─▶ online
 *        ▲                  ▲            │              │           │
 *        │                  └─ waiting ◀─┴──────────────┴───────────┘  the connection fails
 *        └── conflict, refused, logged out, gave up, closed
 */
export type State =
  | {
      readonly phase: 'offline';
      /**
       * - `new`: nothing was asked of it yet, or no more than to register
       * - `logged out`: by `logout`
       * - `conflict`: another client has logged in under this name; `error` is a `ConflictError`
       * - `refused`: the server does not accept the credentials; `error` is a `RefusedError`
       * - `gave up`: `login` timed out or was aborted, as `error` says
       * - `closed`: by `close`, for good
       */
      readonly why: 'new' | 'logged out' | 'conflict' | 'refused' | 'gave up' | 'closed';
      readonly error?: Error;
    }
  /** Asking the dispatcher for a server. `attempt` counts from 0 and begins anew after a stable while online. */
  | { readonly phase: 'locating'; readonly attempt: number }
  /** Connecting, and agreeing on a key. */
  | { readonly phase: 'connecting'; readonly attempt: number; readonly address: Address }
  /** Connected, with no login asked for: to register. */
  | { readonly phase: 'connected'; readonly address: Address }
  | { readonly phase: 'logging in'; readonly attempt: number; readonly address: Address }
  | { readonly phase: 'online'; readonly name: string; readonly address: Address }
  /** Waiting for the next attempt, `delayMs` after this state began, because of `error`. */
  | { readonly phase: 'waiting'; readonly attempt: number; readonly delayMs: number; readonly error: Error };

export type Phase = State['phase'];
