import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto';
import { isIP } from 'node:net';

/** A certificate and its key, in PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** What a test may choose of a certificate. */
export interface CertificateOptions {
  /** DNS names and IPv4 addresses that it is for. */
  readonly hosts: readonly string[];
  readonly notAfter?: Date;
}

const DAY_MS = 86_400_000;
/** Object identifiers in DER (X.690 §8.19): ecdsa-with-SHA256, commonName, subjectAltName, basicConstraints. */
const ECDSA_WITH_SHA256 = Buffer.from('06082a8648ce3d040302', 'hex');
const COMMON_NAME = Buffer.from('0603550403', 'hex');
const SUBJECT_ALT_NAME = Buffer.from('0603551d11', 'hex');
const BASIC_CONSTRAINTS = Buffer.from('0603551d13', 'hex');
const TRUE = Buffer.from('0101ff', 'hex');
/** Tags of X.690 and of RFC 5280. */
const [INTEGER, BIT_STRING, OCTET_STRING, UTF8, UTC_TIME, SEQUENCE, SET] = [2, 3, 4, 12, 23, 48, 49];
const [DNS_NAME, IP_ADDRESS, VERSION, EXTENSIONS] = [0x82, 0x87, 0xa0, 0xa3];

/** An authority of a test's own: certificates as RFC 5280 has them, made without any tool. */
export class TestAuthority {
  private readonly keys = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  /** Its own certificate, in PEM. */
  readonly cert: string;

  constructor(private readonly name = 'The authority of a test') {
    const constraints = extension(BASIC_CONSTRAINTS, der(SEQUENCE, TRUE), true);
    this.cert = this.certificate(name, this.keys.publicKey, new Date(Date.now() + DAY_MS), constraints);
  }

  /** Issues a certificate for a server. */
  issue({ hosts, notAfter = new Date(Date.now() + DAY_MS) }: CertificateOptions): Certificate {
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const names = hosts.map((host) =>
      isIP(host) === 4
        ? der(IP_ADDRESS, Buffer.from(host.split('.').map(Number)))
        : der(DNS_NAME, Buffer.from(host, 'ascii')),
    );
    const alternatives = extension(SUBJECT_ALT_NAME, der(SEQUENCE, ...names), false);
    return {
      cert: this.certificate('A receiver', publicKey, notAfter, alternatives),
      key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    };
  }

  private certificate(subject: string, publicKey: KeyObject, notAfter: Date, more: Buffer): string {
    const algorithm = der(SEQUENCE, ECDSA_WITH_SHA256);
    const toBeSigned = der(
      SEQUENCE,
      der(VERSION, der(INTEGER, Buffer.from([2]))),
      // A positive number: its first bit is clear.
      der(INTEGER, Buffer.concat([Buffer.from([1]), randomBytes(8)])),
      algorithm,
      distinguishedName(this.name),
      der(SEQUENCE, utcTime(new Date(Date.now() - 2 * DAY_MS)), utcTime(notAfter)),
      distinguishedName(subject),
      publicKey.export({ type: 'spki', format: 'der' }),
      der(EXTENSIONS, der(SEQUENCE, more)),
    );
    const signature = sign('sha256', toBeSigned, this.keys.privateKey);
    const whole = der(SEQUENCE, toBeSigned, algorithm, der(BIT_STRING, Buffer.from([0]), signature));
    const lines = whole.toString('base64').match(/.{1,64}/g) ?? [];
    return ['-----BEGIN CERTIFICATE-----', ...lines, '-----END CERTIFICATE-----', ''].join('\n');
  }
}

/** A value in DER: tag, length, content (X.690 §8.1). */
function der(tag: number | undefined, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const length =
    content.length < 128
      ? Buffer.from([content.length])
      : content.length < 256
        ? Buffer.from([0x81, content.length])
        : Buffer.from([0x82, content.length >> 8, content.length & 0xff]);
  return Buffer.concat([Buffer.from([tag ?? 0]), length, content]);
}

function distinguishedName(name: string): Buffer {
  return der(SEQUENCE, der(SET, der(SEQUENCE, COMMON_NAME, der(UTF8, Buffer.from(name, 'utf8')))));
}

function utcTime(instant: Date): Buffer {
  const digits = instant.toISOString().replace(/\D/g, '').slice(2, 14);
  return der(UTC_TIME, Buffer.from(`${digits}Z`, 'ascii'));
}

function extension(id: Buffer, value: Buffer, critical: boolean): Buffer {
  return der(SEQUENCE, id, ...(critical ? [TRUE] : []), der(OCTET_STRING, value));
}
