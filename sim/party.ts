import type { Role } from '@hawser/protocol';

/** A name, and whom it may want to write to. One or more clients use it. */
export interface Party {
  readonly name: string;
  readonly role: Role;
  /** Names that it is bound to at first, and users that a user may write to. */
  readonly friends: Party[];
  /** For a user: the devices that it may add. */
  readonly devices: Party[];
}

export const PASSWORD = '5f4dcc3b5aa765d61d8327deb882cf99';
