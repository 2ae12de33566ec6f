/** A C compiler, for the tests of `examples/c`. */

import { aptInstall, isThere } from './apt.ts';

const PACKAGES = ['gcc', 'libc6-dev', 'make'];

/** The compilers that are there: each has to take the example. */
export function compilers(): string[] {
  const found = ['cc', 'clang'].filter(isThere);
  return found.length > 0 ? found : ['gcc'].filter(isThere);
}

/** Installs one where that can be done without asking: as root on Debian and its like. Says so when it could not. */
export function installCompiler(): void {
  if (compilers().length > 0) return;
  const failure = aptInstall(PACKAGES, () => compilers().length > 0);
  if (failure === undefined) console.log(`▶ installed ${PACKAGES.join(', ')} for the tests of examples/c`);
  else console.log(`▶ no C compiler, so that the tests of examples/c are skipped: ${failure}`);
}
