import { Resolver } from 'node:dns/promises';

/** All addresses of a host name. */
export type ResolveName = (name: string) => Promise<string[]>;

const LOOPBACK = ['127.0.0.1', '::1'];
const QUERY_TIMEOUT_MS = 2000;
const TRIES = 2;

/** Whether a name means this machine by itself (RFC 6761 §6.3), whatever a DNS server says of it. */
export function isLocalName(name: string): boolean {
  const plain = name.toLowerCase().replace(/\.$/, '');
  return plain === 'localhost' || plain.endsWith('.localhost');
}

/**
 * Asks the DNS without `getaddrinfo`: that runs on the thread pool, where a slow name server would hold up the
 * signatures of tokens. So `/etc/hosts` and search domains do not count.
 */
export function dnsResolver(): ResolveName {
  const resolver = new Resolver({ timeout: QUERY_TIMEOUT_MS, tries: TRIES });
  return async (name) => {
    if (isLocalName(name)) return LOOPBACK;
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
  };
}
