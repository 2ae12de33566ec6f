import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { serverLimits } from '@hawser/protocol';
import fc from 'fast-check';
import {
  isLoopbackHost,
  optionOf,
  readSetting,
  readSettings,
  SettingError,
  type SettingName,
  type Settings,
  settingNames,
  variableOf,
} from './settings.ts';

// fast-check prints the seed of a failure; another seed is tried with HAWSER_SEED=<number>.
fc.configureGlobal({ seed: Number(process.env.HAWSER_SEED ?? 1) });

/** Further options that a value needs beside it. */
const pem = { tlsCert: 'cert.pem', tlsKey: 'key.pem' };
const beside: Partial<Record<SettingName, Partial<Record<SettingName, string>>>> = {
  host: { advertise: 'im.example.org' },
  tlsPort: pem,
  httpsPort: pem,
  tlsCert: { ...pem, tlsPort: '0' },
  tlsKey: { ...pem, httpsPort: '0' },
  tlsClientCa: { ...pem, tlsPort: '0' },
  tlsClientCert: { ...pem, tlsPort: '0', tlsClientCa: 'ca.pem' },
  advertiseTls: { ...pem, tlsPort: '0' },
  redis: { node: 'n1', postgres: 'postgres://db/hawser' },
  node: { redis: 'redis://127.0.0.1', postgres: 'postgres://db/hawser' },
};

function readOption(name: SettingName, text: string): unknown {
  return readSettings({ ...beside[name], [name]: text }, {})[name];
}

function readVariable(name: SettingName, text: string): unknown {
  const { [name]: _, ...others } = beside[name] ?? {};
  return readSettings(others, { [variableOf(name)]: text })[name];
}

function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    assert.ok(error instanceof SettingError, String(error));
    assert.ok(!error.message.includes('\n'), 'one line');
    return error.message;
  }
  return assert.fail('it was not refused');
}

interface Expectation {
  readonly option: string;
  readonly variable: string;
  readonly preset: unknown;
  /** As written, and as read. */
  readonly good: readonly (readonly [string, unknown])[];
  readonly bad: readonly string[];
  readonly must: string;
  readonly isSecret?: boolean;
}

function redis(more: object): object {
  const login = { username: undefined, password: undefined };
  return { kind: 'single', hosts: [], path: undefined, master: undefined, tls: false, ...login, database: 0, ...more };
}

const mustBePort = 'must be a port from 0 to 65535';
const badPorts = ['', '-1', '65536', '100000', '80.5', '0x50', '1e3', ' 80', '80 ', 'http', '٨٠'];
const goodPorts = [
  ['0', 0],
  ['1', 1],
  ['08888', 8888],
  ['65535', 65_535],
] as const;
const mustBeCount = 'must be a whole number of at least 1';
const badCounts = ['', '0', '-1', '1.5', '1e3', 'many', '1000000000000000', ' 1', 'Infinity'];
const mustBeAddress = 'must be an IP address of this machine, or localhost';
const badAddresses = ['', 'example.org', '127.0.0.1:80', '[::1]', '256.0.0.1', '1.2.3', '*', ' ::1'];
const mustBeAdvertised = 'must be HOST, HOST:PORT or [IPV6]:PORT that clients can connect to';

function seconds(option: string, variable: string, preset: number, most: number): Expectation {
  return {
    option,
    variable,
    preset,
    good: [
      ['1', 1000],
      ['0.5', 500],
      ['0.001', 1],
      [String(most), most * 1000],
    ],
    bad: ['', '0', '0.0', '-1', String(most + 1), `${most}.1`, '1s', '1e1', '.5', 'never', ' 1'],
    must: `must be a number above 0 and at most ${most}`,
  };
}

function file(option: string, variable: string): Expectation {
  const good = ['/etc/hawser/cert.pem', 'a b', '.'].map((each) => [each, each] as const);
  return { option, variable, preset: undefined, good, bad: [''], must: 'must be the path of a file' };
}

function count(option: string, variable: string, preset: number): Expectation {
  return {
    option,
    variable,
    preset,
    good: [
      ['1', 1],
      ['999999999999999', 999_999_999_999_999],
    ],
    bad: badCounts,
    must: mustBeCount,
  };
}

const expected: Record<SettingName, Expectation> = {
  host: {
    option: '--host',
    variable: 'HAWSER_HOST',
    preset: '127.0.0.1',
    good: ['127.0.0.1', '0.0.0.0', '::', '::1', 'localhost', '192.0.2.7', 'fe80::1'].map((each) => [each, each]),
    bad: badAddresses,
    must: mustBeAddress,
  },
  port: {
    option: '--port',
    variable: 'HAWSER_PORT',
    preset: 8888,
    good: goodPorts,
    bad: badPorts,
    must: mustBePort,
  },
  httpPort: {
    option: '--http-port',
    variable: 'HAWSER_HTTP_PORT',
    preset: 9999,
    good: goodPorts,
    bad: badPorts,
    must: mustBePort,
  },
  adminHost: {
    option: '--admin-host',
    variable: 'HAWSER_ADMIN_HOST',
    preset: '127.0.0.1',
    good: ['127.0.0.1', '::1', 'localhost', '0.0.0.0'].map((each) => [each, each]),
    bad: badAddresses,
    must: mustBeAddress,
  },
  adminPort: {
    option: '--admin-port',
    variable: 'HAWSER_ADMIN_PORT',
    preset: 9998,
    good: goodPorts,
    bad: badPorts,
    must: mustBePort,
  },
  advertise: {
    option: '--advertise',
    variable: 'HAWSER_ADVERTISE',
    preset: undefined,
    good: [
      ['im.example.org', { host: 'im.example.org', port: undefined }],
      ['im.example.org.', { host: 'im.example.org.', port: undefined }],
      ['im.example.org:7000', { host: 'im.example.org', port: 7000 }],
      ['hawser', { host: 'hawser', port: undefined }],
      ['my_host-1:1', { host: 'my_host-1', port: 1 }],
      ['203.0.113.7', { host: '203.0.113.7', port: undefined }],
      ['203.0.113.7:65535', { host: '203.0.113.7', port: 65_535 }],
      ['2001:db8::7', { host: '2001:db8::7', port: undefined }],
      ['[2001:db8::7]', { host: '2001:db8::7', port: undefined }],
      ['[2001:db8::7]:7000', { host: '2001:db8::7', port: 7000 }],
    ],
    bad: [
      ...['', 'a b', ':7000', 'a:', 'a:0', 'a:65536', 'a:b', 'a:1:2', 'http://a', 'a/b', 'a?', 'ä.example', 'a\n'],
      ...['[a]', '[203.0.113.7]:1', '[2001:db8::7', '[2001:db8::7]7000', '[]', '-a', 'a-', 'a..b', '.a', '.'],
      ...['203.0.113', '203.0.113.256', '7000', '0.0.0.0', '0.0.0.0:1', '::', '[::]:1', `${'a'.repeat(64)}.b`],
      `${'a.'.repeat(127)}`,
    ],
    must: mustBeAdvertised,
  },
  postgres: {
    option: '--postgres',
    variable: 'HAWSER_POSTGRES',
    preset: undefined,
    good: [
      ...['postgres://db', 'postgresql://hawser:s%40crët@db.example.org:5433/hawser?sslmode=require'],
      ...['postgres://hawser@/hawser?host=%2Fvar%2Frun%2Fpostgresql', 'postgres://[::1]:5432/hawser'],
    ].map((each) => [each, each]),
    bad: [
      '',
      'db',
      'host=db dbname=hawser',
      'http://db/hawser',
      'postgres://',
      'postgres:// db',
      'postgres://a:b:c@d:e/f',
    ],
    must: 'must be a URL such as postgres://user:password@host:5432/database',
    isSecret: true,
  },
  tlsPort: {
    option: '--tls-port',
    variable: 'HAWSER_TLS_PORT',
    preset: undefined,
    good: goodPorts,
    bad: badPorts,
    must: mustBePort,
  },
  httpsPort: {
    option: '--https-port',
    variable: 'HAWSER_HTTPS_PORT',
    preset: undefined,
    good: goodPorts,
    bad: badPorts,
    must: mustBePort,
  },
  tlsCert: file('--tls-cert', 'HAWSER_TLS_CERT'),
  tlsKey: file('--tls-key', 'HAWSER_TLS_KEY'),
  tlsClientCa: file('--tls-client-ca', 'HAWSER_TLS_CLIENT_CA'),
  tlsClientCert: {
    option: '--tls-client-cert',
    variable: 'HAWSER_TLS_CLIENT_CERT',
    preset: 'optional',
    good: [
      ['optional', 'optional'],
      ['required', 'required'],
    ],
    bad: ['', 'none', 'true', 'Required'],
    must: 'must be optional or required',
  },
  advertiseTls: {
    option: '--advertise-tls',
    variable: 'HAWSER_ADVERTISE_TLS',
    preset: undefined,
    good: [
      ['im.example.org', { host: 'im.example.org', port: undefined }],
      ['im.example.org:8889', { host: 'im.example.org', port: 8889 }],
    ],
    bad: ['', ':7000', '0.0.0.0', 'tls://a'],
    must: mustBeAdvertised,
  },
  proxyFrom: {
    option: '--proxy-from',
    variable: 'HAWSER_PROXY_FROM',
    preset: undefined,
    good: [
      ['192.0.2.7', [{ address: '192.0.2.7', bits: 32 }]],
      [
        '10.0.0.0/8,2001:db8::/32,::1',
        [
          { address: '10.0.0.0', bits: 8 },
          { address: '2001:db8::', bits: 32 },
          { address: '::1', bits: 128 },
        ],
      ],
      ['0.0.0.0/0', [{ address: '0.0.0.0', bits: 0 }]],
    ],
    bad: [
      '',
      ',',
      '10.0.0.0/33',
      '10.0.0/8',
      '::1/129',
      '10.0.0.1/',
      '10.0.0.1/8/8',
      '10.0.0.1, 10.0.0.2',
      'proxy',
      'fe80::1%lo',
    ],
    must: 'must be addresses or networks such as 10.0.0.0/8, with commas between them',
  },
  data: {
    option: '--data',
    variable: 'HAWSER_DATA',
    preset: './hawser-data',
    good: ['/var/lib/hawser', '.', 'a b', '~'].map((each) => [each, each]),
    bad: [''],
    must: 'must be the path of a folder',
  },
  logLevel: {
    option: '--log-level',
    variable: 'HAWSER_LOG_LEVEL',
    preset: 'info',
    good: ['trace', 'debug', 'info', 'warn', 'error', 'silent'].map((each) => [each, each]),
    bad: ['', 'INFO', 'fatal', 'verbose', '30'],
    must: 'must be one of trace, debug, info, warn, error, silent',
  },
  maxConnections: {
    option: '--max-connections',
    variable: 'HAWSER_MAX_CONNECTIONS',
    preset: serverLimits.connectionsMax,
    good: [
      ['1', 1],
      ['999999999999999', 999_999_999_999_999],
    ],
    bad: badCounts,
    must: mustBeCount,
  },
  connectionsPerAddress: count('--connections-per-address', 'HAWSER_CONNECTIONS_PER_ADDRESS', 20_000),
  handshakesPerAddress: count('--handshakes-per-address', 'HAWSER_HANDSHAKES_PER_ADDRESS', 500),
  loginFailuresPerAddress: count('--login-failures-per-address', 'HAWSER_LOGIN_FAILURES_PER_ADDRESS', 720),
  registration: {
    option: '--registration',
    variable: 'HAWSER_REGISTRATION',
    preset: 'open',
    good: ['open', 'closed'].map((each) => [each, each]),
    bad: ['', 'OPEN', 'true', 'no'],
    must: 'must be open or closed',
  },
  registrationsPerAddress: count('--registrations-per-address', 'HAWSER_REGISTRATIONS_PER_ADDRESS', 1_000),
  newDevicesPerAddress: count('--new-devices-per-address', 'HAWSER_NEW_DEVICES_PER_ADDRESS', 1_000),
  sessionFrames: count('--session-frames', 'HAWSER_SESSION_FRAMES', 10_000),
  sessionBytes: count('--session-bytes', 'HAWSER_SESSION_BYTES', 16 * 1024 * 1024),
  allowPlainLogin: {
    option: '--allow-plain-login',
    variable: 'HAWSER_ALLOW_PLAIN_LOGIN',
    preset: false,
    good: [
      ['true', true],
      ['1', true],
      ['false', false],
      ['0', false],
    ],
    bad: ['', 'yes', 'TRUE', 'on', '2'],
    must: 'must be true or false',
  },
  devices: {
    option: '--devices',
    variable: 'HAWSER_DEVICES',
    preset: 'tofu',
    good: ['open', 'tofu', 'provisioned'].map((each) => [each, each]),
    bad: ['', 'TOFU', 'closed', 'code'],
    must: 'must be one of open, tofu, provisioned',
  },
  pairing: {
    option: '--pairing',
    variable: 'HAWSER_PAIRING',
    preset: 'open',
    good: ['open', 'code'].map((each) => [each, each]),
    bad: ['', 'Open', 'closed', '1234'],
    must: 'must be one of open, code',
  },
  deviceAge: {
    option: '--device-age',
    variable: 'HAWSER_DEVICE_AGE',
    preset: serverLimits.deviceAgeMsMax,
    good: [
      ['1', 86_400_000],
      ['0.5', 43_200_000],
      ['3650', 315_360_000_000],
    ],
    bad: ['', '0', '-1', '3651', '1d', 'never'],
    must: 'must be a number above 0 and at most 3650',
  },
  requireEncryption: {
    option: '--require-encryption',
    variable: 'HAWSER_REQUIRE_ENCRYPTION',
    preset: false,
    good: [
      ['true', true],
      ['0', false],
    ],
    bad: ['', 'yes', 'TRUE'],
    must: 'must be true or false',
  },
  loginTimeout: seconds('--login-timeout', 'HAWSER_LOGIN_TIMEOUT', serverLimits.loginTimeoutMs, 3600),
  idleTimeout: seconds('--idle-timeout', 'HAWSER_IDLE_TIMEOUT', serverLimits.idleTimeoutMs, 86_400),
  persistAfter: {
    option: '--persist-after',
    variable: 'HAWSER_PERSIST_AFTER',
    preset: serverLimits.persistAfterMs,
    good: [
      ['1', 1],
      ['0.5', 0.5],
      ['60000', 60_000],
    ],
    bad: ['', '0', '-1', '60001', '1ms'],
    must: 'must be a number above 0 and at most 60000',
  },
  redeliveryAfter: seconds('--redelivery-after', 'HAWSER_REDELIVERY_AFTER', serverLimits.redeliveryAfterMs, 3600),
  backlogAfter: seconds('--backlog-after', 'HAWSER_BACKLOG_AFTER', serverLimits.backlogAfterMs, 3600),
  inboxMessages: {
    option: '--inbox-messages',
    variable: 'HAWSER_INBOX_MESSAGES',
    preset: serverLimits.inboxMessagesMax,
    good: [['1', 1]],
    bad: badCounts,
    must: mustBeCount,
  },
  inboxBytes: {
    option: '--inbox-bytes',
    variable: 'HAWSER_INBOX_BYTES',
    preset: serverLimits.inboxBytesMax,
    good: [['1', 1]],
    bad: badCounts,
    must: mustBeCount,
  },
  inboxAge: {
    option: '--inbox-age',
    variable: 'HAWSER_INBOX_AGE',
    preset: serverLimits.inboxAgeMsMax,
    good: [
      ['1', 86_400_000],
      ['0.5', 43_200_000],
      ['3650', 315_360_000_000],
    ],
    bad: ['', '0', '-1', '3651', '30d'],
    must: 'must be a number above 0 and at most 3650',
  },
  redis: {
    option: '--redis',
    variable: 'HAWSER_REDIS',
    preset: undefined,
    good: [
      ['redis://127.0.0.1', redis({ hosts: [{ host: '127.0.0.1', port: 6379 }] })],
      ['redis://[::1]:7000/3', redis({ hosts: [{ host: '::1', port: 7000 }], database: 3 })],
      [
        'rediss://me:a%40b:c@redis.example:1',
        redis({ hosts: [{ host: 'redis.example', port: 1 }], tls: true, username: 'me', password: 'a@b:c' }),
      ],
      ['redis://:pw@r', redis({ hosts: [{ host: 'r', port: 6379 }], password: 'pw' })],
      ['unix:///run/redis.sock', redis({ path: '/run/redis.sock' })],
      [
        'redis+sentinel://a,b:7/main',
        redis({
          kind: 'sentinel',
          hosts: [
            { host: 'a', port: 26_379 },
            { host: 'b', port: 7 },
          ],
          master: 'main',
        }),
      ],
      [
        'redis+cluster://a,b:7',
        redis({
          kind: 'cluster',
          hosts: [
            { host: 'a', port: 6379 },
            { host: 'b', port: 7 },
          ],
        }),
      ],
    ],
    bad: [
      ...['', 'localhost', 'http://a', 'redis://', 'redis://a,b', 'redis://a:0', 'redis://a:65536', 'redis://a/x'],
      ...['redis+sentinel://a', 'redis+sentinel://a/', 'redis+cluster://a/1', 'redis://[a]', 'unix://a', 'redis://a b'],
      ...['redis://%zz:secret@a', 'redis://:secret@', 'redis+cluster://u:secret@a,,b'],
    ],
    must:
      'must be redis://HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/MASTER, redis+cluster://HOST:PORT,HOST:PORT or ' +
      'unix:///PATH, with rediss for TLS and USER:PASSWORD@ before the first host',
    isSecret: true,
  },
  node: {
    option: '--node',
    variable: 'HAWSER_NODE',
    preset: undefined,
    good: ['n1', 'eu-west-3', 'A', 'x'.repeat(32)].map((each) => [each, each]),
    bad: ['', '-a', 'a-', 'a.b', 'a b', 'ä', 'x'.repeat(33), 'a\n'],
    must: 'must be up to 32 letters, digits and hyphens, with no hyphen at either end',
  },
  drainWithin: {
    option: '--drain-within',
    variable: 'HAWSER_DRAIN_WITHIN',
    preset: 20_000,
    good: [
      ['20', 20_000],
      ['0.5', 500],
      ['3600', 3_600_000],
    ],
    bad: ['', '0', '-1', '3601', '1e3', '20s'],
    must: 'must be a number above 0 and at most 3600',
  },
};

for (const [key, { option, variable, preset, good, bad, must, isSecret }] of Object.entries(expected)) {
  const name = key as SettingName;
  describe(option, () => {
    test(`is called so, and ${variable} in the environment`, () => {
      assert.equal(optionOf(name), option);
      assert.equal(variableOf(name), variable);
    });

    test('has its documented default', () => {
      assert.deepEqual(readSettings({}, {})[name], preset);
    });

    test('is read alike as option and as variable', () => {
      for (const [text, value] of good) {
        assert.deepEqual(readOption(name, text), value, text);
        assert.deepEqual(readVariable(name, text), value, text);
      }
    });

    test('refuses impossible values, naming their source, what they must be, and what they are', () => {
      for (const text of bad) {
        const what = isSecret === true ? must : `${must}, not ${JSON.stringify(text)}`;
        assert.equal(
          refusal(() => readOption(name, text)),
          `${option} ${what}`,
        );
        assert.equal(
          refusal(() => readVariable(name, text)),
          `${variable} ${what}`,
        );
      }
    });
  });
}

test('every setting is tested here', () => {
  assert.deepEqual([...settingNames].sort(), Object.keys(expected).sort());
});

test('an option goes before its variable, even before an impossible one', () => {
  assert.equal(readSettings({ port: '1' }, { HAWSER_PORT: '2' }).port, 1);
  assert.equal(readSettings({ port: '1' }, { HAWSER_PORT: 'x' }).port, 1);
});

test('variables of other programs are none of its business', () => {
  assert.equal(readSettings({}, { PATH: '/bin', HAWSERPORT: 'x', hawser_port: 'x' }).port, 8888);
});

test('a HAWSER_ variable that is no setting is refused by name, as a slip that would otherwise go unseen', () => {
  for (const variable of ['HAWSER_PROT', 'HAWSER_', 'HAWSER_port', 'HAWSER_HTTPPORT']) {
    for (const read of [readSettings, readSetting.bind(undefined, 'data')]) {
      const message = refusal(() => read({}, { [variable]: '1' }));
      assert.equal(message, `${variable} is not a setting: "hawser serve --help" lists those there are`);
    }
  }
});

test('one setting can be read whatever the others are', () => {
  assert.equal(readSetting('data', {}, { HAWSER_PORT: 'x', HAWSER_HOST: '0.0.0.0', HAWSER_DATA: '/d' }), '/d');
  assert.equal(
    refusal(() => readSetting('data', { data: '' }, {})),
    '--data must be the path of a folder, not ""',
  );
});

test('a host that other machines can reach needs --advertise', () => {
  for (const host of ['0.0.0.0', '::', '192.0.2.7', '2001:db8::7', '126.0.0.1', '::ffff:10.0.0.1']) {
    assert.equal(
      refusal(() => readSettings({ host }, {})),
      `--host ${host} is reachable from other machines: say with --advertise HOST[:PORT] what clients are to be told`,
    );
    assert.equal(readSettings({ host, advertise: 'a' }, {}).host, host);
    assert.equal(readSettings({ host }, { HAWSER_ADVERTISE: 'a' }).host, host);
  }
});

test('what TLS needs beside a setting is named, and what would have no effect', () => {
  for (const [given, message] of [
    [{ tlsPort: '1' }, '--tls-port and --https-port need --tls-cert and --tls-key'],
    [{ httpsPort: '1', tlsCert: 'c' }, '--tls-port and --https-port need --tls-cert and --tls-key'],
    [pem, '--tls-cert and --tls-key have no effect without --tls-port or --https-port'],
    [
      { ...pem, httpsPort: '1', tlsClientCa: 'a' },
      '--tls-client-ca and --advertise-tls have no effect without --tls-port',
    ],
    [{ advertiseTls: 'a' }, '--tls-client-ca and --advertise-tls have no effect without --tls-port'],
    [{ ...pem, tlsPort: '1', tlsClientCert: 'required' }, '--tls-client-cert required needs --tls-client-ca'],
  ] as const) {
    assert.equal(
      refusal(() => readSettings(given, {})),
      message,
    );
  }
});

test('a node of a cluster has a name, a Redis and a database', () => {
  assert.equal(
    refusal(() => readSettings({ redis: 'redis://:secret@a' }, {})),
    '--redis is for nodes of a cluster: say with --node NAME what this one is called',
  );
  assert.equal(
    refusal(() => readSettings({ node: 'n1' }, {})),
    '--node is for nodes of a cluster: say with --redis URL where they find each other',
  );
  assert.equal(
    refusal(() => readSettings({ node: 'n1', redis: 'redis://:secret@a' }, {})),
    '--redis is for nodes of a cluster, which share a database: say with --postgres URL which',
  );
});

test('a host of this machine alone needs none', () => {
  for (const host of ['127.0.0.1', '127.9.9.9', 'localhost', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1']) {
    assert.equal(readSettings({ host }, {}).host, host);
    assert.ok(isLoopbackHost(host));
  }
});

test('whatever the text, a setting is read or refused by a SettingError', () => {
  const name = fc.constantFrom(...settingNames);
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.stringMatching(/^[0-9.:[\]a-f-]{0,12}$/),
    fc.integer().map(String),
  );
  fc.assert(
    fc.property(name, text, (each, value) => {
      let settings: Settings;
      try {
        settings = readSettings({ [each]: value }, {});
      } catch (error) {
        assert.ok(error instanceof SettingError);
        return;
      }
      assert.notEqual(settings[each], undefined);
      assert.ok(!Number.isNaN(settings[each]));
    }),
  );
});

test('a long name is refused quickly', () => {
  const began = performance.now();
  refusal(() => readOption('advertise', `${'a'.repeat(100_000)}!`));
  refusal(() => readOption('advertise', `${'a-'.repeat(120)}!`));
  assert.ok(performance.now() - began < 1000);
});
