import { Injectable } from '@nestjs/common';
import type { PartnerTrust } from '../federation/assertions.service.js';
import type { FailureLimits } from '../platform/config/config.js';
import { StatementPool } from '../platform/database/statement-pool.js';
import type { PublicJwk } from '../platform/jws/public-key.js';
import type { ScopeAudience } from '../platform/kernel/client.js';
import type { Tier } from '../platform/kernel/tier.js';
import type { ClaimPattern } from './claim-pattern.js';
import type { CredentialStatus } from './credential.entity.js';

/** Whom an assertion is to prove, and by which issuer; null: by the agent's own keys. */
export interface AssertionClientKey {
  readonly agentId: string;
  readonly issuer: string | null;
  /** The network that it calls from, as failures are counted. */
  readonly network: string;
}

/** The state of an agent and of one credential that its assertion may be checked against, read together. */
export interface AssertionCandidate {
  readonly organizationId: string;
  readonly organizationStatus: 'active' | 'suspended';
  readonly tier: Tier;
  readonly agentId: string;
  readonly agentStatus: 'active' | 'suspended' | 'decommissioned';
  readonly scopes: readonly string[];
  readonly tokenTtlSeconds: number | null;
  /** The generations of organization, agent and credential. */
  readonly generation: string;
  readonly audiences: readonly ScopeAudience[];
  /** `null` where the agent has none. */
  readonly credential: AssertionCredential | null;
  /** Until when the client has to wait in the network, after too many failures there; null where it does not. */
  readonly waitsUntil: Date | null;
}

/** A public key or a federated identity that is not revoked. */
export interface AssertionCredential {
  readonly credentialId: string;
  readonly status: CredentialStatus;
  readonly expiresAt: Date | null;
  readonly retiresAt: Date | null;
  readonly lastUsedAt: Date | null;
  /** Of a key. */
  readonly publicJwk: PublicJwk | null;
  /** Of an identity. */
  readonly identity: {
    readonly subject: string;
    readonly claims: ClaimPattern;
    readonly partner: PartnerTrust & { readonly singleUse: boolean; readonly isActive: boolean };
  } | null;
}

/** An assertion that is used where it may be used once. */
export interface AssertionUse {
  readonly organizationId: string;
  /** The agent or the partner that made it. */
  readonly issuerId: string;
  /** 32 bytes. */
  readonly digest: Buffer;
  readonly expiresAt: Date;
}

interface AssertionClientRow {
  ordinal: number;
  organization_id: string;
  organization_status: 'active' | 'suspended';
  organization_generation: number;
  tier: Tier;
  agent_id: string;
  agent_status: 'active' | 'suspended' | 'decommissioned';
  agent_generation: number;
  scopes: string[];
  token_ttl_seconds: number | null;
  credential_id: string | null;
  credential_status: CredentialStatus;
  credential_generation: number;
  expires_at: Date | null;
  retires_at: Date | null;
  last_used_at: Date | null;
  audiences: [scope: string, identifier: string, ttlSeconds: number | null][] | null;
  public_jwk: PublicJwk | null;
  subject: string;
  claims: ClaimPattern;
  partner_id: string;
  partner_jwks_uri: string | null;
  partner_jwks: readonly PublicJwk[] | null;
  partner_audience: string | null;
  partner_algorithms: string[] | null;
  partner_single_use: boolean;
  partner_status: string;
  waits_until: Date | null;
}

const READ_ASSERTION_CLIENTS = {
  name: 'read_assertion_clients',
  text: `SELECT * FROM read_assertion_clients($1::uuid[], $2::text[], $3::text[], $4::timestamptz, $5::integer,
    $6::integer)`,
};

/** In the order of the index, so that two batches cannot wait for each other. */
const USE_ASSERTIONS = {
  name: 'use_assertions',
  text: `INSERT INTO used_assertions (organization_id, issuer_id, digest, expires_at)
    SELECT u.organization, u.issuer, u.digest, u.expires_at
      FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::timestamptz[])
        AS u (organization, issuer, digest, expires_at)
      ORDER BY u.organization, u.issuer, u.digest
    ON CONFLICT DO NOTHING
    RETURNING organization_id, issuer_id, digest`,
};

const DELETE_EXPIRED = {
  name: 'delete_expired_assertions',
  text: `WITH deleted AS (
      DELETE FROM used_assertions WHERE (organization_id, issuer_id, digest) IN (
        SELECT organization_id, issuer_id, digest FROM used_assertions
          WHERE expires_at < $1 ORDER BY expires_at LIMIT $2)
      RETURNING 1
    ) SELECT count(*)::integer AS count FROM deleted`,
};

/** All SQL on assertions. */
@Injectable()
export class AssertionsRepository {
  constructor(private readonly statements: StatementPool) {}

  /**
   * What each assertion is checked against, in the order given; empty where there is no such agent. One query.
   *
   * @param limits how many failures make a client wait
   */
  async readClients(
    keys: readonly AssertionClientKey[],
    now: Date,
    limits: FailureLimits,
  ): Promise<readonly (readonly AssertionCandidate[])[]> {
    const rows = await this.statements.query<AssertionClientRow>(READ_ASSERTION_CLIENTS, [
      keys.map(({ agentId }) => agentId),
      keys.map(({ issuer }) => issuer),
      keys.map(({ network }) => network),
      now.toISOString(),
      limits.perClient,
      limits.perNetwork,
    ]);
    const found: AssertionCandidate[][] = keys.map(() => []);
    for (const row of rows) {
      const issuer = keys[row.ordinal - 1]?.issuer ?? null;
      found[row.ordinal - 1]?.push(toCandidate(row, issuer));
    }
    return found;
  }

  /**
   * Uses assertions up, in one statement that commits by itself.
   *
   * @returns for each, in the order given, whether it had not been used before; of two alike the first
   */
  async use(uses: readonly AssertionUse[]): Promise<readonly boolean[]> {
    const rows = await this.statements.query<{ organization_id: string; issuer_id: string; digest: Buffer }>(
      USE_ASSERTIONS,
      [
        uses.map(({ organizationId }) => organizationId),
        uses.map(({ issuerId }) => issuerId),
        uses.map(({ digest }) => digest),
        uses.map(({ expiresAt }) => expiresAt.toISOString()),
      ],
    );
    const fresh = new Set(rows.map((row) => nameOf(row.organization_id, row.issuer_id, row.digest)));
    return uses.map(({ organizationId, issuerId, digest }) => fresh.delete(nameOf(organizationId, issuerId, digest)));
  }

  /**
   * Forgets assertions that expired before an instant.
   *
   * @param limit the most that one statement deletes
   * @returns how many it deleted
   */
  async deleteExpired(before: Date, limit: number): Promise<number> {
    const rows = await this.statements.query<{ count: number }>(DELETE_EXPIRED, [before, limit]);
    return rows[0]?.count ?? 0;
  }
}

function nameOf(organizationId: string, issuerId: string, digest: Buffer): string {
  return `${organizationId} ${issuerId} ${digest.toString('base64')}`;
}

function toCandidate(row: AssertionClientRow, issuer: string | null): AssertionCandidate {
  return {
    organizationId: row.organization_id,
    organizationStatus: row.organization_status,
    tier: row.tier,
    agentId: row.agent_id,
    agentStatus: row.agent_status,
    scopes: row.scopes,
    tokenTtlSeconds: row.token_ttl_seconds,
    generation: `${row.organization_generation}.${row.agent_generation}.${row.credential_generation}`,
    audiences: (row.audiences ?? []).map(([scope, identifier, ttlSeconds]) => ({ scope, identifier, ttlSeconds })),
    credential: row.credential_id === null ? null : toCredential(row, row.credential_id, issuer),
    waitsUntil: row.waits_until,
  };
}

function toCredential(row: AssertionClientRow, credentialId: string, issuer: string | null): AssertionCredential {
  return {
    credentialId,
    status: row.credential_status,
    expiresAt: row.expires_at,
    retiresAt: row.retires_at,
    lastUsedAt: row.last_used_at,
    publicJwk: row.public_jwk,
    identity:
      issuer === null
        ? null
        : {
            subject: row.subject,
            claims: row.claims,
            partner: {
              partnerId: row.partner_id,
              issuer,
              jwksUri: row.partner_jwks_uri,
              jwks: row.partner_jwks,
              audience: row.partner_audience,
              algorithms: row.partner_algorithms,
              singleUse: row.partner_single_use,
              isActive: row.partner_status === 'active',
            },
          },
  };
}
