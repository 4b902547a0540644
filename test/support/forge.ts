import { sign, type KeyObject } from 'node:crypto';
import { KeysService, type SigningKey } from '../../src/keys/keys.service.js';
import type { TestApp } from './test-app.js';

/** Signs the input of a JWS, or pretends to. */
export type Signature = (input: string) => Buffer;

/** A compact JWS (RFC 7515 §7.1) of any header and any payload. */
export function jws(header: object, payload: object | string, signature: Signature): string {
  const input = [header, payload].map((part) => base64url(typeof part === 'string' ? part : JSON.stringify(part)));
  return `${input.join('.')}.${signature(input.join('.')).toString('base64url')}`;
}

/** RSASSA-PKCS1-v1_5 with SHA-256, as RS256 has it. */
export function rs256(key: KeyObject): Signature {
  return (input) => sign('sha256', Buffer.from(input), key);
}

/** The key that the service signs with, which nobody outside has: to show what is checked besides the signature. */
export function signingKeyOf(service: TestApp): SigningKey {
  return service.app.get(KeysService).signer();
}

/** The header of a token, not verified. */
export function headerOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString('utf8')) as Record<string, unknown>;
}

function base64url(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64url');
}
