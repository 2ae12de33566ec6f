import type { Target } from './target.ts';

/** Every target, by name. Loaded only when it is wanted, so that a deliberate bug can be put in before. */
export const targets = {
  decoder: async () => new (await import('./decoder.ts')).DecoderTarget() as Target,
  bodies: async () => new (await import('./bodies.ts')).BodiesTarget() as Target,
  splice: async () => new (await import('./splice.ts')).SpliceTarget() as Target,
  client: async () => new (await import('./client.ts')).ClientTarget() as Target,
  stateful: async () => new (await import('./stateful.ts')).StatefulTarget() as Target,
  server: async () => new (await import('./server.ts')).ServerTarget() as Target,
} as const satisfies Record<string, () => Promise<Target>>;

export type TargetName = keyof typeof targets;

export function isTarget(name: string): name is TargetName {
  return Object.hasOwn(targets, name);
}
