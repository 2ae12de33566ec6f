/** What the main thread and a cryptography worker say to each other. */

export type Job =
  | { readonly id: number; readonly kind: 'generate' }
  | { readonly id: number; readonly kind: 'decrypt'; readonly key: number; readonly ciphertext: Uint8Array }
  | { readonly id: number; readonly kind: 'hash'; readonly password: string }
  | { readonly id: number; readonly kind: 'verify'; readonly password: string; readonly hash: string }
  | { readonly id: number; readonly kind: 'key'; readonly key: number; readonly privateDer: Uint8Array };

export type Result = { readonly id: number; readonly value: unknown } | { readonly id: number; readonly error: string };

/** A new key pair, tested; the main thread numbers it and gives it to all threads. */
export interface KeyPair {
  readonly publicDer: Uint8Array;
  readonly privateDer: Uint8Array;
}
