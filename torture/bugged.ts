// Loaded into the server by `--bug`: every core that it opens gets a deliberate bug of the simulator.
import { Core } from '@hawser/server/core/core';
import { bugNamed } from '../sim/bugs.ts';

export const BUG_VARIABLE = 'TORTURE_BUG';

const bug = bugNamed(process.env[BUG_VARIABLE] ?? '');
const open = Core.open.bind(Core);
bug?.global?.();
Core.open = async (...args) => {
  const core = await open(...args);
  bug?.core?.(core);
  return core;
};
