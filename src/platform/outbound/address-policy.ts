import { BlockList, isIP } from 'node:net';

/** IPv4 that is not public: the special-purpose registry of RFC 6890, and the metadata service that Azure put outside. */
const REFUSED_IPV4 = [
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '168.63.129.16/32',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.0.2.0/24',
  '192.88.99.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
];

/**
 * The IPv6 that is handed out to the public. All else is refused: loopback, unspecified, unique local, link-local,
 * multicast, IPv4-mapped, NAT64.
 */
const PUBLIC_IPV6 = ['2000::/3'];

/** What within the public IPv6 carries an IPv4 address (Teredo, 6to4) or is for documentation. */
const REFUSED_IPV6 = ['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20'];

/** Which addresses outgoing calls may reach: public ones, and those of networks that the operator named. */
export class AddressPolicy {
  private readonly refusedIpv4 = networks(REFUSED_IPV4);
  private readonly publicIpv6 = networks(PUBLIC_IPV6);
  private readonly refusedIpv6 = networks(REFUSED_IPV6);
  private readonly allowedIpv4: BlockList;
  private readonly allowedIpv6: BlockList;

  /**
   * @param allowedNetworks addresses or CIDRs; an IPv4 network does not allow its IPv6 spellings
   */
  constructor(readonly allowedNetworks: readonly string[]) {
    this.allowedIpv4 = networks(allowedNetworks.filter((network) => !network.includes(':')));
    this.allowedIpv6 = networks(allowedNetworks.filter((network) => network.includes(':')));
  }

  /**
   * Whether a call may reach `address`.
   *
   * @param address an address as `net.isIP` knows it; anything else is refused
   */
  permits(address: string): boolean {
    if (this.isNamed(address)) return true;
    if (address.includes('%')) return false;
    switch (isIP(address)) {
      case 4:
        return !this.refusedIpv4.check(address, 'ipv4');
      case 6:
        return this.publicIpv6.check(address, 'ipv6') && !this.refusedIpv6.check(address, 'ipv6');
      default:
        return false;
    }
  }

  /** Whether `address` lies in one of the networks that the operator named. */
  isNamed(address: string): boolean {
    if (address.includes('%')) return false;
    switch (isIP(address)) {
      case 4:
        return this.allowedIpv4.check(address, 'ipv4');
      case 6:
        return this.allowedIpv6.check(address, 'ipv6');
      default:
        return false;
    }
  }
}

function networks(list: readonly string[]): BlockList {
  const blocks = new BlockList();
  for (const network of list) {
    const [address = '', bits] = network.split('/');
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) blocks.addAddress(address, family);
    else blocks.addSubnet(address, Number(bits), family);
  }
  return blocks;
}
