import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { isIP } from 'node:net';
import { sourceNetwork } from './source-network.js';

describe('the network of a source', () => {
  it.each([
    ['192.0.2.7', '192.0.2.7'],
    ['::ffff:192.0.2.7', '192.0.2.7'],
    ['::FFFF:192.0.2.7', '192.0.2.7'],
    ['::ffff:c000:207', '192.0.2.7'],
    ['0:0:0:0:0:FFFF:C000:0207', '192.0.2.7'],
    ['::fffe:c000:207', '0:0:0:0::/64'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:0DB8:0001:0002:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:db8::6', '2001:db8:0:0::/64'],
    ['2001:db8:1:2::', '2001:db8:1:2::/64'],
    ['::1', '0:0:0:0::/64'],
    ['1::2:3:4:5:6:7', '1:0:2:3::/64'],
    ['64:ff9b::192.0.2.7', '64:ff9b:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ])('of %s is %s', (address, network) => {
    expect(sourceNetwork(address)).toBe(network);
  });

  it('is one for all whose peer is unknown, and for what is no address', () => {
    expect([null, '', 'proxy', '1.2.3', '192.0.2.7:80'].map(sourceNetwork)).toEqual(Array(5).fill('unknown'));
  });

  it('is the same for two IPv6 addresses exactly where their first 64 bits are', () => {
    const group = fc.integer({ min: 0, max: 0xffff }).map((value) => value.toString(16));
    fc.assert(
      fc.property(
        fc.array(group, { minLength: 8, maxLength: 8 }),
        fc.array(group, { minLength: 4, maxLength: 4 }),
        (groups, other) => {
          const first = sourceNetwork(groups.join(':'));
          expect(sourceNetwork([...groups.slice(0, 4), ...other].join(':'))).toBe(first);
          const changed = [...groups.slice(0, 3), groups[3] === '0' ? '1' : '0', ...groups.slice(4)];
          expect(sourceNetwork(changed.join(':'))).not.toBe(first);
          expect(isIP(first.replace('/64', ''))).toBe(6);
        },
      ),
    );
  });
});
