/** Addresses and networks of them, as the system's sockets and the operator's settings name them. */

import { BlockList, isIP } from 'node:net';

/** An address and how many of its bits count. */
export interface Network {
  readonly address: string;
  readonly bits: number;
}

/** Whether an address is in one of some networks; an IPv4 address also where it is written as IPv6. */
export function networksOf(networks: readonly Network[]): (address: string) => boolean {
  const list = new BlockList();
  for (const { address, bits } of networks) list.addSubnet(address, bits, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  return (address) => isIP(address) !== 0 && list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

/** Whether an address is of this machine. */
export const isLoopback: (address: string) => boolean = networksOf([
  { address: '127.0.0.0', bits: 8 },
  { address: '::1', bits: 128 },
]);
