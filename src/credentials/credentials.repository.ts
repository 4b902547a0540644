import { Injectable } from '@nestjs/common';
import { Not, type EntityManager } from 'typeorm';
import type { PartnerEntity } from '../federation/partners.service.js';
import type { FailureLimits } from '../platform/config/config.js';
import { plainArray, textArray } from '../platform/database/array-literal.js';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { ScopeAudience } from '../platform/kernel/client.js';
import type { Tier } from '../platform/kernel/tier.js';
import { CredentialEntity, type CredentialKind, type CredentialStatus } from './credential.entity.js';
import { SealedSecretEntity } from './sealed-secret.entity.js';

/** What a client names: its agent, and the prefix of the secret that it shows. */
export interface ClientKey {
  readonly agentId: string;
  readonly prefix: string;
  /** The network that it calls from, as failures are counted. */
  readonly network: string;
}

/** The state of an agent and of one of its credentials, read together. */
export interface ClientCandidate {
  readonly organizationId: string;
  readonly organizationStatus: 'active' | 'suspended';
  readonly tier: Tier;
  readonly agentId: string;
  readonly agentStatus: 'active' | 'suspended' | 'decommissioned';
  readonly scopes: readonly string[];
  readonly tokenTtlSeconds: number | null;
  /** The generations of organization, agent and credential. */
  readonly generation: string;
  /** The resource servers of its scopes, built-in ones left out. */
  readonly audiences: readonly ScopeAudience[];
  /** `null` where the agent has no credential with the prefix. */
  readonly credential: {
    readonly credentialId: string;
    readonly status: CredentialStatus;
    readonly secretHash: Buffer;
    readonly expiresAt: Date | null;
    readonly retiresAt: Date | null;
    readonly lastUsedAt: Date | null;
  } | null;
  /** Until when the client has to wait in the network, after too many failures there; null where it does not. */
  readonly waitsUntil: Date | null;
}

/** The use of a credential, as it is kept in `last_used_at`. */
export interface CredentialUse {
  readonly organizationId: string;
  readonly agentId: string;
  readonly credentialId: string;
  readonly usedAt: Date;
}

/** The place of a credential in the list. */
export interface CredentialPosition {
  readonly createdAt: string;
  readonly credentialId: string;
}

interface ClientRow {
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
  secret_hash: Buffer;
  expires_at: Date | null;
  retires_at: Date | null;
  last_used_at: Date | null;
  audiences: [scope: string, identifier: string, ttlSeconds: number | null][] | null;
  waits_until: Date | null;
}

const READ_CLIENTS = {
  name: 'read_clients',
  text: `SELECT * FROM read_clients($1::uuid[], $2::text[], $3::text[], $4::timestamptz, $5::integer, $6::integer)`,
};

/** Rows that somebody holds are skipped: a note of use waits for nobody, so it can never be part of a deadlock. */
const RECORD_USES = {
  name: 'record_credential_uses',
  text: `WITH used AS (
      SELECT c.organization_id, c.agent_id, c.credential_id, u.used_at
        FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[])
          AS u (organization, agent, credential, used_at)
        JOIN credentials c ON c.organization_id = u.organization AND c.agent_id = u.agent
          AND c.credential_id = u.credential
        FOR UPDATE OF c SKIP LOCKED
    )
    UPDATE credentials c SET last_used_at = greatest(c.last_used_at, used.used_at) FROM used
      WHERE c.organization_id = used.organization_id AND c.agent_id = used.agent_id
        AND c.credential_id = used.credential_id`,
};

/** All SQL on credentials. */
@Injectable()
export class CredentialsRepository {
  constructor(
    private readonly statements: StatementPool,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /**
   * What is known about each client, in the order given; empty where there is no such agent. One query.
   *
   * @param limits how many failures make a client wait
   */
  async readClients(
    keys: readonly ClientKey[],
    now: Date,
    limits: FailureLimits,
  ): Promise<readonly (readonly ClientCandidate[])[]> {
    const rows = await this.statements.query<ClientRow>(READ_CLIENTS, [
      plainArray(keys.map(({ agentId }) => agentId)),
      textArray(keys.map(({ prefix }) => prefix)),
      textArray(keys.map(({ network }) => network)),
      now.toISOString(),
      limits.perClient,
      limits.perNetwork,
    ]);
    const found: ClientCandidate[][] = keys.map(() => []);
    for (const row of rows) found[row.ordinal - 1]?.push(toCandidate(row));
    return found;
  }

  /** Notes when credentials were used. One statement for many. */
  async recordUses(uses: readonly CredentialUse[]): Promise<void> {
    await this.statements.query(RECORD_USES, [
      uses.map(({ organizationId }) => organizationId),
      uses.map(({ agentId }) => agentId),
      uses.map(({ credentialId }) => credentialId),
      uses.map(({ usedAt }) => usedAt.toISOString()),
    ]);
  }

  async insert(transaction: EntityManager, credential: CredentialEntity): Promise<void> {
    await transaction.insert(CredentialEntity, credential);
  }

  /** Writes the state of a credential; when it was last used is not part of it. */
  async update(transaction: EntityManager, credential: CredentialEntity): Promise<void> {
    const { organizationId, agentId, credentialId, status, generation, retiresAt, revokedAt } = credential;
    await transaction.update(
      CredentialEntity,
      { organizationId, agentId, credentialId },
      { status, generation, retiresAt, revokedAt },
    );
  }

  /** Revokes every credential of an agent, and the tokens that they earned. */
  async revokeAll(
    transaction: EntityManager,
    { organizationId, agentId }: { readonly organizationId: string; readonly agentId: string },
    now: Date,
  ): Promise<void> {
    await transaction.query(
      `UPDATE credentials SET status = 'revoked', revoked_at = $3, generation = generation + 1
        WHERE organization_id = $1 AND agent_id = $2 AND status <> 'revoked'`,
      [organizationId, agentId, now],
    );
  }

  find(
    transaction: EntityManager,
    organizationId: string,
    agentId: string,
    kind: CredentialKind,
    credentialId: string,
  ): Promise<CredentialEntity | null> {
    return transaction.findOneBy(CredentialEntity, { organizationId, agentId, credentialId, kind });
  }

  /** Up to `limit` credentials of a kind that an agent has, newest first, after a position. */
  list(
    organizationId: string,
    agentId: string,
    kind: CredentialKind,
    after: CredentialPosition | undefined,
    limit: number,
  ): Promise<CredentialEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(CredentialEntity, 'credential')
      .where('credential.organization_id = :organizationId', { organizationId })
      .andWhere('credential.agent_id = :agentId', { agentId })
      .andWhere('credential.kind = :kind', { kind })
      // An identity whose partner was deleted is gone with it.
      .andWhere("(credential.kind <> 'federated' OR credential.partner_id IS NOT NULL)")
      .orderBy('credential.created_at', 'DESC')
      .addOrderBy('credential.credential_id', 'DESC')
      .limit(limit);
    if (after !== undefined) {
      query.andWhere('(credential.created_at, credential.credential_id) < (:createdAt, :credentialId)', after);
    }
    return query.getMany();
  }

  /** How many credentials of a kind an agent has that are not revoked; one whose overlap has passed is. */
  async countUnrevoked(
    transaction: EntityManager,
    organizationId: string,
    agentId: string,
    kind: CredentialKind,
    now: Date,
  ): Promise<number> {
    const rows = await transaction.query<{ count: string }[]>(
      `SELECT count(*) AS count FROM credentials
        WHERE organization_id = $1 AND agent_id = $2 AND status <> 'revoked'
          AND (retires_at IS NULL OR retires_at > $3) AND kind = $4`,
      [organizationId, agentId, now, kind],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** All credentials of a kind that an agent has and that are not revoked. */
  unrevoked(
    transaction: EntityManager,
    organizationId: string,
    agentId: string,
    kind: CredentialKind,
  ): Promise<CredentialEntity[]> {
    return transaction.findBy(CredentialEntity, { organizationId, agentId, kind, status: Not('revoked') });
  }

  /** How many identities hang on a partner, revoked ones too. */
  countOfPartner(transaction: EntityManager, organizationId: string, partnerId: string): Promise<number> {
    return transaction.countBy(CredentialEntity, { organizationId, partnerId });
  }

  /** All scopes of the agents that a partner's assertions prove. */
  async scopesOfPartner(transaction: EntityManager, { organizationId, partnerId }: PartnerEntity): Promise<string[]> {
    const rows = await transaction.query<{ scope: string }[]>(
      `SELECT DISTINCT unnest(a.scopes) AS scope FROM credentials c
        JOIN agents a ON a.organization_id = c.organization_id AND a.agent_id = c.agent_id
        WHERE c.organization_id = $1 AND c.partner_id = $2 AND c.status <> 'revoked'`,
      [organizationId, partnerId],
    );
    return rows.map(({ scope }) => scope);
  }

  /**
   * Revokes the identities of a partner that is deleted, and the tokens that they earned.
   *
   * @returns how many there were
   */
  async revokeOfPartner(
    transaction: EntityManager,
    { organizationId, partnerId }: PartnerEntity,
    now: Date,
  ): Promise<number> {
    const rows = await transaction.query<{ count: string }[]>(
      `WITH ended AS (
        UPDATE credentials SET status = 'revoked', revoked_at = coalesce(revoked_at, $3), retires_at = NULL,
            generation = generation + 1, partner_id = NULL
          WHERE organization_id = $1 AND partner_id = $2
          RETURNING 1
      ) SELECT count(*) AS count FROM ended`,
      [organizationId, partnerId, now],
    );
    return Number(rows[0]?.count ?? 0);
  }

  /** The sealed secret with a name: the one that is stored already, or the one given, which is stored then. */
  async sealedSecret(transaction: EntityManager, fresh: SealedSecretEntity): Promise<Buffer> {
    await transaction.createQueryBuilder().insert().into(SealedSecretEntity).values(fresh).orIgnore().execute();
    const stored = await transaction.findOneByOrFail(SealedSecretEntity, { name: fresh.name });
    return stored.sealed;
  }
}

function toCandidate(row: ClientRow): ClientCandidate {
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
    credential:
      row.credential_id === null
        ? null
        : {
            credentialId: row.credential_id,
            status: row.credential_status,
            secretHash: row.secret_hash,
            expiresAt: row.expires_at,
            retiresAt: row.retires_at,
            lastUsedAt: row.last_used_at,
          },
    waitsUntil: row.waits_until,
  };
}
