import { Injectable } from '@nestjs/common';
import { Config } from '../platform/config/config.js';
import { timeFault, type JwtAssertion } from '../platform/jws/jwt-assertion.js';
import { isSignedBy } from '../platform/jws/public-key.js';
import { Clock } from '../platform/kernel/clock.js';
import { PartnerKeys, type KeyFault } from './partner-keys.js';
import type { PartnerTrust } from './partner.entity.js';

export type { PartnerTrust } from './partner.entity.js';

/** Why an assertion is none of a partner's: for the audit log and whoever may verify, never for a client. */
export type AssertionFault =
  | 'unknown_issuer'
  | 'algorithm_not_allowed'
  | 'wrong_audience'
  | 'expired'
  | 'not_yet_valid'
  | 'wrong_signature'
  | KeyFault;

/** Tells whether assertions are what their partners signed. */
@Injectable()
export class AssertionsService {
  constructor(
    private readonly keys: PartnerKeys,
    private readonly clock: Clock,
    private readonly config: Config,
  ) {}

  /**
   * Checks an assertion of an active partner (RFC 7523 §3): issuer, algorithm, audience and time first, which cost
   * nothing, then the signature, for which keys may have to be fetched.
   *
   * @param partner as its row stands
   * @param mayFetch whether an outgoing call may be made
   * @returns what is wrong, or null
   * @throws QueueFull where too many wait for the partner's keys
   */
  async fault(partner: PartnerTrust, assertion: JwtAssertion, mayFetch: boolean): Promise<AssertionFault | null> {
    const { jws } = assertion;
    if (assertion.issuer !== partner.issuer) return 'unknown_issuer';
    if (partner.algorithms !== null && !partner.algorithms.includes(jws.algorithm)) return 'algorithm_not_allowed';
    if (!assertion.audiences.includes(partner.audience ?? this.config.tokens.issuer)) return 'wrong_audience';
    const untimely = timeFault(assertion, this.clock.nowSeconds());
    if (untimely !== null) return untimely;
    const key = await this.keys.find(partner, jws, mayFetch);
    if (typeof key === 'string') return key;
    return (await isSignedBy(jws, key)) ? null : 'wrong_signature';
  }
}
