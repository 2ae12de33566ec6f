import { serverLimits } from '@hawser/protocol';
import type { CoreOptions } from '@hawser/server/core/services';
import type { Change } from './contents.ts';
import { fakeHash } from './fakes.ts';
import { PASSWORD, type Party } from './party.ts';
import type { Random } from './random.ts';
import type { StoreLimits } from './store.ts';

/** Names and who knows whom. */
export function drawParties(random: Random, clients: number): Party[] {
  const names = Math.max(2, Math.round(clients * random.pick([0.6, 0.8, 1, 1])));
  const users = Math.max(1, Math.round(names * random.between(0.2, 0.9)));
  const parties: Party[] = [];
  for (let i = 0; i < names; i++) {
    const role = i < users ? 'app' : 'device';
    parties.push({ name: `${role === 'app' ? 'u' : 'd'}${i}`, role, friends: [], devices: [] });
  }
  const apps = parties.slice(0, users);
  const devices = parties.slice(users);
  for (const device of devices) {
    for (let i = random.below(3); i >= 0; i--) {
      const app = random.pick(apps);
      if (app.friends.includes(device)) continue;
      app.friends.push(device);
      device.friends.push(app);
    }
  }
  for (const app of apps) {
    app.devices.push(...devices);
    for (let i = random.below(3); i >= 0; i--) {
      const other = random.pick(apps);
      if (!app.friends.includes(other)) app.friends.push(other);
    }
  }
  return parties;
}

/** Most users are registered, and devices added, before it begins. */
export function initially(parties: readonly Party[]): Change[] {
  const changes: Change[] = [];
  for (const { name, role, friends } of parties) {
    if (role === 'app') {
      const record = { kind: 'user', passwordHash: fakeHash(PASSWORD), createdAt: 0 } as const;
      changes.push({ type: 'name', name, record });
      for (const friend of friends) {
        if (friend.role === 'device') changes.push({ type: 'bind', user: name, device: friend.name });
      }
    } else {
      const record = { kind: 'device', version: undefined, abilities: undefined, createdAt: 0, lastSeenAt: 0 } as const;
      changes.push({ type: 'name', name, record });
    }
  }
  return changes;
}

export function drawOptions(random: Random): CoreOptions {
  return {
    loginTimeoutMs: serverLimits.loginTimeoutMs,
    idleTimeoutMs: serverLimits.idleTimeoutMs,
    allowPlainLogin: false,
    devices: 'tofu',
    pairing: 'open',
    deviceAgeMsMax: serverLimits.deviceAgeMsMax,
    persistAfterMs: random.pick([25, 25, 5, 200, 2000]),
    redeliveryAfterMs: random.pick([60_000, 20_000, 6000]),
    backlogAfterMs: random.pick([1000, 1000, 5000]),
    inboxAgeMsMax: serverLimits.inboxAgeMsMax,
  };
}

/** In some clusters devices are of no use to anybody soon. */
export function drawDeviceAge(random: Random): Partial<CoreOptions> {
  return random.chance(0.3) ? { deviceAgeMsMax: random.magnitude(200, 20_000) } : {};
}

export function drawLimits(random: Random): StoreLimits {
  const isSmall = random.chance(0.25);
  return {
    messagesMax: isSmall ? Math.round(random.magnitude(3, 300)) : 100_000,
    bytesMax: random.chance(0.1) ? 20_000 : 64 * 1024 * 1024,
    senderShare: 2,
  };
}
