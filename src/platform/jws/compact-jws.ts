import { createHash } from 'node:crypto';

/** A longer JWS is no assertion. */
const MAX_LENGTH = 16_384;
/** RFC 7515 §2: base64url has no padding, no white space and no other characters; decoders forgive them. */
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;

/** A JWS in compact serialization (RFC 7515 §7.1) whose payload is a JSON object, read but not verified. */
export interface CompactJws {
  /** As it was received. */
  readonly text: string;
  /** What the header claims; only an algorithm that fits the key is ever used. */
  readonly algorithm: string;
  readonly kid: string | null;
  readonly typ: string | null;
  readonly claims: Readonly<Record<string, unknown>>;
}

/**
 * Reads a compact JWS strictly: one spelling of its bytes, a header with an algorithm, no critical extension
 * (RFC 7515 §4.1.11: we know none). Keys that the header names or holds (`jwk`, `jku`, `x5u`, `x5c`) are not looked at
 * (RFC 8725 §3.10).
 *
 * @returns null for anything else
 */
export function parseCompactJws(text: string): CompactJws | null {
  if (text.length > MAX_LENGTH || !COMPACT.test(text)) return null;
  const parts = text.split('.');
  if (!parts.every(isCanonical)) return null;
  const header = parseObject(parts[0] ?? '');
  const claims = parseObject(parts[1] ?? '');
  if (header === null || claims === null || Object.hasOwn(header, 'crit')) return null;
  const { alg, kid = null, typ = null } = header;
  if (typeof alg !== 'string' || !isTextOrNull(kid) || !isTextOrNull(typ)) return null;
  return { text, algorithm: alg, kid, typ, claims };
}

/**
 * SHA-256 of what a JWS signs, 32 bytes: the same for every signature over it, so that an algorithm whose signatures can
 * be written in two ways makes no second assertion of one.
 */
export function signedDigest({ text }: CompactJws): Buffer {
  return createHash('sha256')
    .update(text.slice(0, text.lastIndexOf('.')), 'latin1')
    .digest();
}

/** Whether no other text stands for the same bytes: the last character may have bits to spare (RFC 4648 §3.5). */
function isCanonical(encoded: string): boolean {
  return Buffer.from(encoded, 'base64url').toString('base64url') === encoded;
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string';
}

function parseObject(encoded: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(
      new TextDecoder('utf-8', { fatal: true }).decode(Buffer.from(encoded, 'base64url')),
    );
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : null;
  } catch {
    return null;
  }
}
