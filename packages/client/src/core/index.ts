/**
 * The client without a platform: give it ports of your own. `@hawser/client` itself exports it ready for Node and for
 * browsers.
 */
export * from './app.ts';
export * from './backoff.ts';
export { Client, type MessageOptions, type Receipt, type SendOptions } from './client.ts';
export * from './device.ts';
export * from './errors.ts';
export type { Handler } from './inbox.ts';
export type { Message } from './message.ts';
export * from './options.ts';
export type { WaitOptions } from './pending.ts';
export type * from './ports.ts';
export type * from './state.ts';
