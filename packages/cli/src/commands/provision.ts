import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type Operations, OperatorError } from '@hawser/server';
import { Command } from 'commander';
import { csvLine, type DeviceLine, readDevices } from '../device-csv.ts';
import { print, visible, warn } from '../output.ts';
import { Progress } from '../progress.ts';
import { Slots } from '../talk/slots.ts';
import { addSettings, folderOf, type GivenOptions, operationsOn } from './options.ts';

/** 160 bits, in 27 characters that need no quoting anywhere. */
const SECRET_BYTES = 20;
/** Devices being added at once: the server writes them together. */
const ADDED_AT_ONCE = 32;

interface AddOptions extends GivenOptions {
  readonly code?: string;
  readonly csv?: string;
}

/** `hawser device add` */
export function add(): Command {
  const command = new Command('add')
    .argument('[id]')
    .description('add a device before it comes: prints the secret that it needs, this once')
    .option('--code <code>', 'the pairing code that a person must know to add it to theirs')
    .option('--csv <file>', 'add those in a file with the columns id, secret, code; what is empty is made or left out');
  return addSettings(command, ['data']).action(async (id: string | undefined, options: AddOptions) => {
    if ((id === undefined) === (options.csv === undefined)) throw new OperatorError('give an id, or --csv FILE');
    // Devices may be added before the first start.
    await using operations = await operationsOn(folderOf(options), { makes: true });
    if (operations.isNew) warn(`a new data folder is made: ${operations.data}`);
    if (options.csv !== undefined) await addAll(operations, options.csv);
    else if (id !== undefined) await addOne(operations, { id, secret: '', code: options.code ?? '' });
  });
}

async function addOne(operations: Operations, line: DeviceLine): Promise<void> {
  const secret = newSecret();
  if (!(await isAdded(operations, { ...line, secret }))) {
    throw new OperatorError(`${line.id} is known already: "hawser device secret" gives it a secret`);
  }
  print(secret);
}

async function isAdded(operations: Operations, { id, secret, code }: DeviceLine): Promise<boolean> {
  return (await operations.run('addDevice', { name: id, secret, code })) === 'added';
}

/**
 * Prints each device with its secret when it is added, so that what was printed is so. What is known already is told, and
 * not changed: the same file may be given again when this was broken off.
 */
async function addAll(operations: Operations, file: string): Promise<void> {
  const lines = await readDevices(createReadStream(file)).catch((cause: Error) => {
    throw new OperatorError(`${file}: ${cause.message}`, { cause });
  });
  const progress = new Progress('adding', process.stdout.isTTY ? 'silent' : 'devices');
  const slots = new Slots(ADDED_AT_ONCE);
  const known: string[] = [];
  const failed: string[] = [];
  const adding: Promise<void>[] = [];
  let done = 0;
  const addLine = async (line: DeviceLine): Promise<void> => {
    const device = { ...line, secret: line.secret === '' ? newSecret() : line.secret };
    try {
      if (await isAdded(operations, device)) print(csvLine([device.id, device.secret, device.code]));
      else known.push(device.id);
    } catch (error) {
      failed.push(`${device.id} is not added: ${(error as Error).message}`);
    }
    progress.count(++done, lines.length);
  };
  print(csvLine(['id', 'secret', 'code']));
  try {
    for (const line of lines) {
      await slots.begin(() => {
        const work = addLine(line);
        adding.push(work);
        return work;
      });
    }
    await Promise.all(adding);
  } finally {
    progress.end();
  }
  for (const id of known.sort()) warn(`${id} is known already, and was not changed`);
  for (const text of failed) warn(text);
  if (failed.length > 0) throw new OperatorError(`${failed.length} of ${lines.length} devices are not added`);
}

/** `hawser device secret` */
export function secret(): Command {
  const command = new Command('secret')
    .argument('<id>')
    .description('give a device a new secret, printed this once; its session ends, and the old one is good no more');
  return addSettings(command, ['data']).action(async (id: string, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    const made = newSecret();
    await operations.run('setSecret', { name: id, secret: made });
    print(made);
  });
}

/** `hawser device revoke` */
export function revoke(): Command {
  const command = new Command('revoke')
    .argument('<id>')
    .description('lock a device: its session ends, and nobody comes as it until it gets a new secret');
  return addSettings(command, ['data']).action(async (id: string, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    await operations.run('revokeDevice', { name: id });
    print(`${visible(id)} is locked until it gets a new secret by "hawser device secret".`);
  });
}

/** `hawser device code` */
export function code(): Command {
  const command = new Command('code')
    .argument('<id>')
    .argument('[code]', 'without it the device has none any more')
    .description('set the pairing code of a device, or take it away; who has added the device keeps it');
  return addSettings(command, ['data']).action(async (id: string, given: string | undefined, options: GivenOptions) => {
    await using operations = await operationsOn(folderOf(options));
    await operations.run('setCode', { name: id, code: given ?? '' });
    print(given === undefined ? `${visible(id)} has no pairing code.` : `${visible(id)} has this pairing code now.`);
  });
}

function newSecret(): string {
  return randomBytes(SECRET_BYTES).toString('base64url');
}
