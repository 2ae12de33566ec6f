/**
 * `npm run pack [FOLDER]`: makes the packages for publishing, as npm tarballs in FOLDER (default: `dist`).
 *
 * In the workspace sources run as they are. What is published runs on any Node from 20 on and in browsers, without
 * TypeScript: JavaScript, declarations, and source maps with the sources in them. A package is laid out in a temporary
 * folder, with a `package.json` whose exports lead to the JavaScript in place of the sources.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '..');
/** In the order of their dependencies. */
const PUBLISHED: readonly string[] = ['protocol', 'client'];

type Exports = string | { readonly [condition: string]: Exports };

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly exports: Exports;
  readonly scripts?: unknown;
  readonly [field: string]: unknown;
}

function manifestOf(name: string): Manifest {
  return JSON.parse(readFileSync(join(root, 'packages', name, 'package.json'), 'utf8')) as Manifest;
}

/** All sources that a package exports. */
function entries(exports: Exports): string[] {
  return typeof exports === 'string' ? [exports] : Object.values(exports).flatMap(entries);
}

/** `./src/x.ts` becomes `./lib/x.js`, with its declarations before it, as TypeScript wants. */
function published(exports: Exports): Exports {
  if (typeof exports !== 'string') {
    return Object.fromEntries(Object.entries(exports).map(([condition, each]) => [condition, published(each)]));
  }
  const path = exports.replace(/^\.\/src\//, './lib/').replace(/\.ts$/, '');
  return { types: `${path}.d.ts`, default: `${path}.js` };
}

/** Lays a package out in `stage/NAME`. */
function layOut(stage: string, name: string): string {
  const folder = join(root, 'packages', name);
  const laidOut = join(stage, name);
  const { scripts: _, ...manifest } = manifestOf(name);
  mkdirSync(laidOut);
  compile(stage, name, manifest);
  const kept = { ...manifest, exports: published(manifest.exports), files: ['lib'] };
  writeFileSync(join(laidOut, 'package.json'), `${JSON.stringify(kept, null, 2)}\n`);
  cpSync(join(folder, 'README.md'), join(laidOut, 'README.md'));
  cpSync(join(root, 'LICENSE'), join(laidOut, 'LICENSE'));
  return laidOut;
}

function compile(stage: string, name: string, manifest: Manifest): void {
  const source = (path: string): string => join(root, 'packages', name, path);
  const config = {
    extends: join(root, 'tsconfig.json'),
    compilerOptions: {
      // What Node 20 and browsers of its time have, and no more.
      target: 'ES2022',
      lib: ['ES2023'],
      noEmit: false,
      rewriteRelativeImportExtensions: true,
      declaration: true,
      sourceMap: true,
      inlineSources: true,
      rootDir: source('src'),
      outDir: join(stage, name, 'lib'),
      typeRoots: [join(root, 'node_modules/@types')],
      paths: Object.fromEntries(dependencies(stage, name)) as unknown,
    },
    include: [],
    files: entries(manifest.exports).map(source),
  };
  const file = join(stage, `${name}.json`);
  writeFileSync(file, JSON.stringify(config));
  run(join(root, 'node_modules/.bin/tsc'), ['--project', file], root);
}

/** Other packages are taken as they are published: their declarations, laid out before. */
function dependencies(stage: string, name: string): [string, string[]][] {
  return PUBLISHED.slice(0, PUBLISHED.indexOf(name)).flatMap((other) => {
    const { name: specifier, exports } = manifestOf(other);
    return Object.entries(exports).map(([path, source]): [string, string[]] => [
      `${specifier}${path.slice(1)}`,
      entries(source).map((each) => join(stage, other, each.replace(/^\.\/src\/(.*)\.ts$/, 'lib/$1.d.ts'))),
    ]);
  });
}

function run(command: string, args: readonly string[], cwd: string): string {
  return execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] });
}

/** Makes the tarballs in `folder`; returns their paths. */
export function pack(folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  const stage = mkdtempSync(join(tmpdir(), 'hawser-pack-'));
  try {
    return PUBLISHED.map((name) => {
      const args = ['pack', '--json', '--loglevel=error', '--pack-destination', resolve(folder)];
      const packed = JSON.parse(run('npm', args, layOut(stage, name))) as { readonly filename: string }[];
      // An array, or an object by name: npm has changed its mind.
      return join(resolve(folder), Object.values(packed)[0]!.filename);
    });
  } finally {
    rmSync(stage, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  for (const file of pack(process.argv[2] ?? join(root, 'dist'))) console.log(relative(process.cwd(), file));
}
