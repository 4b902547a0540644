import { isIP, isIPv4 } from 'node:net';

/** Where the peer cannot be told: its connection is gone already. */
const UNKNOWN = 'unknown';

const MAPPED_IPV4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/**
 * The network that requests from `address` are counted under: an IPv4 address itself, of IPv6 the /64, since that is
 * what one household or machine has. There is one spelling for each.
 *
 * @param address as `net.isIP` knows it; null where the peer is gone
 */
export function sourceNetwork(address: string | null): string {
  if (address === null) return UNKNOWN;
  if (isIPv4(address)) return address;
  const [plain = ''] = address.split('%');
  const mapped = MAPPED_IPV4.exec(plain)?.[1];
  if (mapped !== undefined) return mapped;
  switch (isIP(plain)) {
    case 4:
      return plain;
    case 6:
      return mappedIpv4(plain) ?? `${prefix64(plain)}::/64`;
    default:
      return UNKNOWN;
  }
}

/** The IPv4 address that an IPv6 one of `::ffff:0:0/96` stands for, where it is written in groups (RFC 4291 §2.5.5.2). */
function mappedIpv4(address: string): string | undefined {
  const groups = groupsOfAll(address);
  if (groups.slice(0, 5).some((group) => group !== 0) || groups[5] !== 0xffff) return undefined;
  return groups
    .slice(6)
    .flatMap((group) => [group >> 8, group & 0xff])
    .join('.');
}

/** The first four groups of an IPv6 address, without leading zeros. */
function prefix64(address: string): string {
  return groupsOfAll(address)
    .slice(0, 4)
    .map((group) => group.toString(16))
    .join(':');
}

/** The eight groups of an IPv6 address. */
function groupsOfAll(address: string): number[] {
  const [head = '', tail = ''] = address.split('::');
  const before = groupsOf(head);
  const after = groupsOf(tail);
  const zeros = address.includes('::') ? 8 - before.length - after.length : 0;
  const groups = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return groups.map((group) => Number.parseInt(group, 16));
}

/** An IPv4 address at the end of an IPv6 one stands for two groups, which are never among the first four. */
function groupsOf(part: string): string[] {
  return part === '' ? [] : part.split(':').flatMap((group) => (group.includes('.') ? ['0', '0'] : [group]));
}
