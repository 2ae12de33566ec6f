/**
 * What limits count as one address: IPv4 as it is, IPv4 within IPv6 as IPv4, any other IPv6 by its /64, since whoever has
 * one address of a /64 can use them all. What is no address stands for itself, and those of which none is known are one
 * address together: never `''`, which stands for the server itself.
 */
export function addressKey(address: string): string {
  if (address === '') return UNKNOWN;
  if (!address.includes(':')) return address;
  const zone = address.indexOf('%');
  const groups = groupsOf(zone < 0 ? address : address.slice(0, zone));
  if (groups === undefined) return address;
  const isMapped = groups.every((group, i) => i > 5 || group === (i === 5 ? 0xffff : 0));
  if (isMapped) return [groups[6]! >> 8, groups[6]! & 0xff, groups[7]! >> 8, groups[7]! & 0xff].join('.');
  return `${groups
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':')}::/64`;
}

const UNKNOWN = 'unknown';

/** The eight numbers of an IPv6 address. */
function groupsOf(text: string): number[] | undefined {
  const [head = '', tail, more] = text.split('::');
  if (more !== undefined) return undefined;
  const first = numbersOf(head);
  if (tail === undefined) return first.length === 8 && first.every(isGroup) ? first : undefined;
  const last = numbersOf(tail);
  const missing = 8 - first.length - last.length;
  if (missing < 1) return undefined;
  const groups = [...first, ...new Array<number>(missing).fill(0), ...last];
  return groups.every(isGroup) ? groups : undefined;
}

function numbersOf(text: string): number[] {
  if (text === '') return [];
  return text.split(':').flatMap((part) => {
    if (!part.includes('.')) return [/^[0-9a-f]{1,4}$/i.test(part) ? Number.parseInt(part, 16) : -1];
    const bytes = part.split('.').map((byte) => (/^\d{1,3}$/.test(byte) ? Number(byte) : -1));
    if (bytes.length !== 4 || bytes.some((byte) => byte < 0 || byte > 255)) return [-1];
    return [bytes[0]! * 256 + bytes[1]!, bytes[2]! * 256 + bytes[3]!];
  });
}

function isGroup(group: number): boolean {
  return group >= 0;
}
