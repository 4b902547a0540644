import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

const VERSION = 1;
const KEY_ID_LENGTH = 4;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;
const HEADER_LENGTH = 1 + KEY_ID_LENGTH + NONCE_LENGTH + TAG_LENGTH;

/** A sealed secret does not open: another master key sealed it, or it was altered. */
export class SealBroken extends Error {
  constructor(purpose: string) {
    super(`the secret "${purpose}" cannot be opened with this MASTER_KEY`);
    this.name = 'SealBroken';
  }
}

/**
 * Seals secrets at rest under the master key: AES-256-GCM with a random nonce and the secret's purpose as associated
 * data, so that one sealed secret cannot be put in another's place.
 *
 * Layout: version (1 byte), the first 4 bytes of the master key's SHA-256, nonce (12), tag (16), ciphertext.
 */
export class Sealer {
  private readonly keyId: Buffer;

  /**
   * @param masterKey 32 bytes
   */
  constructor(private readonly masterKey: Buffer) {
    this.keyId = createHash('sha256').update(masterKey).digest().subarray(0, KEY_ID_LENGTH);
  }

  /**
   * @param secret what to seal
   * @param purpose what it is for; the same is needed to open it
   */
  seal(secret: Buffer, purpose: string): Buffer {
    const nonce = randomBytes(NONCE_LENGTH);
    const cipher = createCipheriv('aes-256-gcm', this.masterKey, nonce).setAAD(Buffer.from(purpose, 'utf8'));
    const ciphertext = Buffer.concat([cipher.update(secret), cipher.final()]);
    return Buffer.concat([Buffer.of(VERSION), this.keyId, nonce, cipher.getAuthTag(), ciphertext]);
  }

  /**
   * @param sealed what `seal` gave
   * @param purpose what it was sealed for
   * @throws SealBroken
   */
  open(sealed: Buffer, purpose: string): Buffer {
    const nonceAt = 1 + KEY_ID_LENGTH;
    const tagAt = nonceAt + NONCE_LENGTH;
    if (sealed.length < HEADER_LENGTH || sealed[0] !== VERSION) throw new SealBroken(purpose);
    if (!sealed.subarray(1, nonceAt).equals(this.keyId)) throw new SealBroken(purpose);
    try {
      const decipher = createDecipheriv('aes-256-gcm', this.masterKey, sealed.subarray(nonceAt, tagAt))
        .setAAD(Buffer.from(purpose, 'utf8'))
        .setAuthTag(sealed.subarray(tagAt, HEADER_LENGTH));
      return Buffer.concat([decipher.update(sealed.subarray(HEADER_LENGTH)), decipher.final()]);
    } catch {
      throw new SealBroken(purpose);
    }
  }
}
