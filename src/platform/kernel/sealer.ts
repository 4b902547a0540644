import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';

const VERSION = 1;
const KEY_ID_LENGTH = 4;
const NONCE_LENGTH = 12;
const TAG_LENGTH = 16;
const HEADER_LENGTH = 1 + KEY_ID_LENGTH + NONCE_LENGTH + TAG_LENGTH;

/** A master key and how sealed secrets name it. */
interface MasterKey {
  readonly id: Buffer;
  readonly key: Buffer;
}

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
  private readonly present: MasterKey;
  private readonly previous: MasterKey | null;

  /**
   * @param masterKey 32 bytes; seals
   * @param previousMasterKey 32 bytes; opens what it sealed, while the master key is changed
   */
  constructor(masterKey: Buffer, previousMasterKey: Buffer | null = null) {
    this.present = named(masterKey);
    this.previous = previousMasterKey === null || previousMasterKey.equals(masterKey) ? null : named(previousMasterKey);
  }

  /** How secrets that are sealed under the master key name it: the bytes behind their first. */
  get presentId(): Buffer {
    return this.present.id;
  }

  /** The same of the previous master key; null where there is none. */
  get previousId(): Buffer | null {
    return this.previous?.id ?? null;
  }

  /**
   * @param secret what to seal
   * @param purpose what it is for; the same is needed to open it
   */
  seal(secret: Buffer, purpose: string): Buffer {
    const nonce = randomBytes(NONCE_LENGTH);
    const cipher = createCipheriv('aes-256-gcm', this.present.key, nonce).setAAD(Buffer.from(purpose, 'utf8'));
    const ciphertext = Buffer.concat([cipher.update(secret), cipher.final()]);
    return Buffer.concat([Buffer.of(VERSION), this.present.id, nonce, cipher.getAuthTag(), ciphertext]);
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
    const id = sealed.subarray(1, nonceAt);
    const master = [this.present, this.previous].find((each) => each?.id.equals(id) === true);
    if (master === undefined || master === null) throw new SealBroken(purpose);
    try {
      const decipher = createDecipheriv('aes-256-gcm', master.key, sealed.subarray(nonceAt, tagAt))
        .setAAD(Buffer.from(purpose, 'utf8'))
        .setAuthTag(sealed.subarray(tagAt, HEADER_LENGTH));
      return Buffer.concat([decipher.update(sealed.subarray(HEADER_LENGTH)), decipher.final()]);
    } catch {
      throw new SealBroken(purpose);
    }
  }
}

function named(key: Buffer): MasterKey {
  return { key, id: createHash('sha256').update(key).digest().subarray(0, KEY_ID_LENGTH) };
}
