import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

const MARK = 'sas_';
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const RANDOM_BYTES = 32;
/** 43 base62 digits hold 256 bits. */
const RANDOM_DIGITS = 43;
/** 6 base62 digits hold 32 bits. */
const CHECKSUM_DIGITS = 6;
const GENERATED = /^sas_[0-9A-Za-z]{49}$/;

/** How many characters of a generated secret are shown in lists and used to find it: the mark and 8 digits. */
const PREFIX_LENGTH = 12;
/** How many of a secret that the environment fixed, which has no mark. */
const FOREIGN_PREFIX_LENGTH = 4;

/**
 * Makes a client secret: `sas_`, 256 random bits in 43 base62 characters, and the CRC-32 of all before in 6, so that
 * scanners can find a leaked one and tell it from look-alikes.
 */
export function generateSecret(): string {
  const random = BigInt(`0x${randomBytes(RANDOM_BYTES).toString('hex')}`);
  const body = MARK + base62(random, RANDOM_DIGITS);
  return body + base62(BigInt(crc32(body)), CHECKSUM_DIGITS);
}

/** Whether `secret` is written as a generated one and its checksum is right. */
export function isWellFormedSecret(secret: string): boolean {
  if (!GENERATED.test(secret)) return false;
  const body = secret.slice(0, -CHECKSUM_DIGITS);
  return secret.slice(-CHECKSUM_DIGITS) === base62(BigInt(crc32(body)), CHECKSUM_DIGITS);
}

/** The part of a secret that is no secret: shown in lists, and what its credential is found by. */
export function prefixOf(secret: string): string {
  return secret.slice(0, secret.startsWith(MARK) ? PREFIX_LENGTH : FOREIGN_PREFIX_LENGTH);
}

function base62(value: bigint, digits: number): string {
  let rest = value;
  let text = '';
  for (let digit = 0; digit < digits; digit += 1) {
    text = (ALPHABET[Number(rest % 62n)] ?? '') + text;
    rest /= 62n;
  }
  return text;
}
