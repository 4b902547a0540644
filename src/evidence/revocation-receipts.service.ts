import { Injectable } from '@nestjs/common';
import { CheckpointSigner } from './checkpoint-signer.js';
import { REVOCATION_RECEIPT_TYP, type RevocationReceiptPayload } from './revocation-receipt.js';

export type { RevocationReceiptPayload, RevokedCounts } from './revocation-receipt.js';

/** Signs what we state about revocations in bulk, with the audit key. */
@Injectable()
export class RevocationReceiptsService {
  constructor(private readonly signer: CheckpointSigner) {}

  /** @returns the receipt as compact JWS (RFC 7515), its payload in canonical form */
  sign(payload: RevocationReceiptPayload): Promise<string> {
    return this.signer.signStatement(payload, REVOCATION_RECEIPT_TYP);
  }
}
