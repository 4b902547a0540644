import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { CalendarMonth } from '../platform/kernel/month.js';
import type { Tier } from '../platform/kernel/tier.js';
import { generationsOf, type AccessTokenClaims } from './access-token-claims.js';
import { TokenRevocationEntity } from './token-revocation.entity.js';

/** One issuance of a group commit, beside the columns of its audit event. */
export interface Issuance {
  readonly credentialId: string;
  readonly generation: string;
  readonly month: CalendarMonth;
}

/** What became of an issuance. */
export type IssuanceOutcome =
  | { readonly outcome: 'issued' }
  | { readonly outcome: 'client_invalid' | 'agent_suspended' | 'organization_suspended' }
  | { readonly outcome: 'generation_changed'; readonly generation: string; readonly scopes: readonly string[] }
  | { readonly outcome: 'quota_reached'; readonly tier: Tier; readonly limit: number };

interface IssuanceRow {
  outcome: IssuanceOutcome['outcome'];
  generation: string | null;
  scopes: string | null;
  tier: Tier | null;
  quota_limit: string | null;
}

const ISSUE_TOKENS = {
  name: 'issue_tokens',
  text: `SELECT * FROM issue_tokens($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::uuid[],
    $8::text[], $9::text[], $10::text[], $11::text[], $12::jsonb[], $13::timestamptz[], $14::uuid[], $15::text[],
    $16::integer[])`,
};

const TOKEN_TIERS = {
  name: 'token_tiers',
  text: `SELECT token_tiers($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::integer[], $7::integer[],
    $8::integer[]) AS tiers`,
};

/** All SQL on tokens. */
@Injectable()
export class TokensRepository {
  constructor(
    private readonly statements: StatementPool,
    private readonly unitOfWork: UnitOfWork,
  ) {}

  /**
   * Issues tokens in one transaction: quota, state and chain.
   *
   * @param events the columns of their audit events, whose actor is the agent
   * @param issuances the rest, in the same order
   * @returns what became of each, in the same order
   */
  async issue(events: readonly unknown[][], issuances: readonly Issuance[]): Promise<readonly IssuanceOutcome[]> {
    const rows = await this.statements.query<IssuanceRow>(ISSUE_TOKENS, [
      ...events,
      issuances.map(({ credentialId }) => credentialId),
      issuances.map(({ generation }) => generation),
      issuances.map(({ month }) => month),
    ]);
    return rows.map(toOutcome);
  }

  /** The tier of each token's organization, in the order given; null where the token is not alive. One query. */
  async tiers(tokens: readonly AccessTokenClaims[]): Promise<readonly (Tier | null)[]> {
    const generations = tokens.map(({ gen }) => generationsOf(gen) ?? [0, 0, 0]);
    const rows = await this.statements.query<{ tiers: (Tier | null)[] }>(TOKEN_TIERS, [
      tokens.map(({ org }) => org),
      tokens.map(({ sub }) => sub),
      tokens.map(({ cred }) => cred),
      tokens.map(({ jti }) => jti),
      tokens.map(({ scope }) => scope),
      generations.map(([organization]) => organization),
      generations.map(([, agent]) => agent),
      generations.map(([, , credential]) => credential),
    ]);
    return rows[0]?.tiers ?? [];
  }

  /**
   * Stores the revocation of one token.
   *
   * @returns false where it was revoked already
   */
  async revoke(transaction: EntityManager, claims: AccessTokenClaims): Promise<boolean> {
    const inserted = await transaction.query<unknown[]>(
      `INSERT INTO token_revocations (organization_id, jti, expires_at) VALUES ($1, $2, to_timestamp($3))
        ON CONFLICT DO NOTHING RETURNING jti`,
      [claims.org, claims.jti, claims.exp],
    );
    return inserted.length > 0;
  }

  /**
   * Deletes revocations whose tokens have expired.
   *
   * @param limit the most that one statement deletes
   * @returns how many it deleted
   */
  async deleteExpired(now: Date, limit: number): Promise<number> {
    const result = await this.unitOfWork.reader
      .createQueryBuilder()
      .delete()
      .from(TokenRevocationEntity)
      .where(
        `(organization_id, jti) IN (SELECT organization_id, jti FROM token_revocations
          WHERE expires_at < :now ORDER BY expires_at LIMIT :limit)`,
        { now, limit },
      )
      .execute();
    return result.affected ?? 0;
  }
}

function toOutcome(row: IssuanceRow): IssuanceOutcome {
  switch (row.outcome) {
    case 'generation_changed':
      return {
        outcome: row.outcome,
        generation: row.generation ?? '',
        scopes: (row.scopes ?? '').split(' ').filter((scope) => scope !== ''),
      };
    case 'quota_reached':
      return { outcome: row.outcome, tier: row.tier ?? 'free', limit: Number(row.quota_limit) };
    default:
      return { outcome: row.outcome };
  }
}
