/** A folder cannot be used as a store; the message says why, for the operator. */
export class StoreUnusable extends Error {}
