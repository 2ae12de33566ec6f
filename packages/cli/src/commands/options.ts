import {
  type Operations,
  openOperations,
  optionOf,
  readSetting,
  readSettings,
  type SettingName,
  type Settings,
  settingNames,
  settings,
  variableOf,
} from '@hawser/server';
import { type Command, Option } from 'commander';
import { warn } from '../output.ts';
import { clientVariables } from '../talk/options.ts';

/** Settings as commander has them: a switch is `true`. */
export type GivenOptions = Partial<Record<SettingName, string | true>>;

/** Gives a command the options of the settings named; all of them if none is. */
export function addSettings(command: Command, names: readonly SettingName[] = settingNames): Command {
  for (const name of names) command.addOption(optionFor(name));
  return command;
}

/** The table of settings says what an option is; its value is read there too. */
function optionFor(name: SettingName): Option {
  const { placeholder, help, fallback } = settings[name];
  const flags = placeholder === undefined ? optionOf(name) : `${optionOf(name)} <${placeholder}>`;
  const preset = placeholder === undefined || fallback === undefined ? '' : ` (default: ${fallback})`;
  return new Option(flags, `${help}${preset} [${variableOf(name)}]`);
}

export function settingsOf(options: GivenOptions): Settings {
  return readSettings(texts(options), environment());
}

/** One setting, of a command that has few of them. */
export function readOneOf<Name extends SettingName>(name: Name, options: GivenOptions): Settings[Name] {
  const given = options[name];
  return readSetting(name, given === undefined ? {} : texts({ [name]: given }), environment());
}

/** The data folder that an operator's command works on. */
export function folderOf({ data }: GivenOptions): string {
  return readSetting('data', texts(data === undefined ? {} : { data }), environment());
}

/** The database that the environment names. */
export function databaseOf(): string | undefined {
  return readSetting('postgres', {}, environment());
}

/** Opens a data folder for operations; what its log would say in earnest is printed. */
export function operationsOn(folder: string, { makes = false } = {}): Promise<Operations> {
  return openOperations(folder, { makes, postgres: databaseOf(), onWarning: warn });
}

/** A variable of `app` or `device` is no slip, though it sets nothing here. */
function environment(): NodeJS.ProcessEnv {
  const others = Object.entries(process.env).filter(([name]) => !clientVariables.some((each) => each === name));
  return Object.fromEntries(others);
}

function texts(options: GivenOptions): Partial<Record<SettingName, string>> {
  const given = settingNames.filter((name) => options[name] !== undefined);
  return Object.fromEntries(given.map((name) => [name, String(options[name])]));
}
