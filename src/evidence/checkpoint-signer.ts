import { Injectable } from '@nestjs/common';
import { sign } from 'node:crypto';
import { KeysService } from '../keys/keys.service.js';
import { canonicalJson } from '../platform/kernel/canonical-event.js';
import {
  AUDIT_ALGORITHM,
  CHECKPOINT_TYP,
  CUT_TYP,
  openCheckpoint,
  openCut,
  type CheckpointPayload,
  type CutPayload,
  type VerificationKey,
} from './checkpoint.js';

/** Signs and opens statements about chains, with the audit keys only. */
@Injectable()
export class CheckpointSigner {
  constructor(private readonly keys: KeysService) {}

  /** @returns a checkpoint as compact JWS */
  sign(payload: CheckpointPayload): Promise<string> {
    return this.signStatement(payload, CHECKPOINT_TYP);
  }

  /** @returns the statement of a cut as compact JWS */
  signCut(payload: CutPayload): Promise<string> {
    return this.signStatement(payload, CUT_TYP);
  }

  /** The audit key with a `kid`; null where there is none. */
  findKey(kid: string): Promise<VerificationKey | null> {
    return this.keys.findAuditKey(kid);
  }

  /** What a checkpoint states, or null where it is not ours. */
  open(jws: string): Promise<CheckpointPayload | null> {
    return openCheckpoint(jws, (kid) => this.keys.findAuditKey(kid));
  }

  /** What the statement of a cut states, or null where it is not ours. */
  openCut(jws: string): Promise<CutPayload | null> {
    return openCut(jws, (kid) => this.keys.findAuditKey(kid));
  }

  /** The JWK Set that checkpoints verify with. */
  async jwks(): Promise<{ keys: object[] }> {
    const { keys } = await this.keys.jwks();
    return { keys: keys.filter(({ purpose }) => purpose === 'audit') };
  }

  /**
   * Signs any statement about a chain.
   *
   * @param typ its `typ`, of its own: no kind of statement passes for another (RFC 8725 §3.11)
   */
  async signStatement(payload: object, typ: string): Promise<string> {
    const { algorithm, kid, privateKey } = await this.keys.auditSigner();
    if (algorithm !== AUDIT_ALGORITHM) throw new Error(`audit keys sign with ${AUDIT_ALGORITHM}`);
    const input = [JSON.stringify({ alg: algorithm, kid, typ }), canonicalJson(payload)]
      .map((part) => Buffer.from(part, 'utf8').toString('base64url'))
      .join('.');
    return new Promise((resolve, reject) => {
      // RFC 7518 §3.4: the two numbers one behind the other, no DER.
      sign(
        'sha256',
        Buffer.from(input, 'ascii'),
        { key: privateKey, dsaEncoding: 'ieee-p1363' },
        (error, signature) => {
          if (error) reject(error);
          else resolve(`${input}.${signature.toString('base64url')}`);
        },
      );
    });
  }
}
