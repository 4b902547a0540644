import { Injectable } from '@nestjs/common';
import { parseAssertion } from '../platform/jws/jwt-assertion.js';
import type { Principal } from '../platform/kernel/principal.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { AssertionsService, type AssertionFault } from './assertions.service.js';
import type { VerifyAssertionBody } from './dto/partner.bodies.js';
import { PartnersService } from './partners.service.js';

/** What a look at an assertion found. */
export type AssertionVerdict =
  | { readonly valid: true; readonly partnerId: string; readonly claims: Readonly<Record<string, unknown>> }
  | { readonly valid: false; readonly reason: AssertionFault | 'malformed' | 'partner_disabled' };

/** Lets people see why an assertion is taken or not. */
@Injectable()
export class VerificationService {
  constructor(
    private readonly partners: PartnersService,
    private readonly assertions: AssertionsService,
  ) {}

  /**
   * Checks an assertion as the token endpoint does, but for which agent it proves. It is not used up.
   *
   * @throws Problem `insufficient_scope` for the organization of somebody else
   */
  async verify(caller: Principal, { token, organizationId }: VerifyAssertionBody): Promise<AssertionVerdict> {
    const organization = organizationFor(caller, organizationId);
    const assertion = parseAssertion(token);
    if (assertion === null) return { valid: false, reason: 'malformed' };
    const partner = await this.partners.withIssuer(organization, assertion.issuer);
    if (partner === null) return { valid: false, reason: 'unknown_issuer' };
    if (partner.status !== 'active') return { valid: false, reason: 'partner_disabled' };
    const reason = await this.assertions.fault(partner, assertion, true);
    if (reason !== null) return { valid: false, reason };
    return { valid: true, partnerId: partner.partnerId, claims: assertion.jws.claims };
  }
}
