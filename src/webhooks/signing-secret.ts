import { createHmac, randomBytes, type KeyObject } from 'node:crypto';

const MARK = 'whsec_';
const SECRET_BYTES = 32;

/** Makes the key that signs what one subscription is sent: 256 random bits. */
export function generateSigningKey(): Buffer {
  return randomBytes(SECRET_BYTES);
}

/** The key as its receiver has it: `whsec_` and base64, as Standard Webhooks writes it. */
export function showSigningKey(key: Buffer): string {
  return MARK + key.toString('base64');
}

/**
 * The headers of Standard Webhooks 1.0: HMAC-SHA256 over id, timestamp and body, one signature a key.
 *
 * @param keys the present key first
 * @param messageId the same for every attempt at one event, so that receivers can tell repetitions
 * @param epochSeconds when this attempt is made
 * @param body the very bytes that are sent
 */
export function signedHeaders(
  keys: readonly KeyObject[],
  messageId: string,
  epochSeconds: number,
  body: string,
): Record<string, string> {
  const signed = `${messageId}.${epochSeconds}.${body}`;
  const signatures = keys.map((key) => `v1,${createHmac('sha256', key).update(signed, 'utf8').digest('base64')}`);
  return {
    'webhook-id': messageId,
    'webhook-timestamp': String(epochSeconds),
    'webhook-signature': signatures.join(' '),
  };
}
