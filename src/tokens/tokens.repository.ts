import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { joinedTexts, plainArray, textArray } from '../platform/database/array-literal.js';
import { StatementPool } from '../platform/database/statement-pool.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { RenderedEvent } from '../platform/kernel/canonical-event.js';
import type { CalendarMonth } from '../platform/kernel/month.js';
import type { Tier } from '../platform/kernel/tier.js';
import { generationsOf, type AccessTokenClaims } from './access-token-claims.js';
import { TokenRevocationEntity } from './token-revocation.entity.js';

/** One issuance of a group commit. */
export interface Issuance {
  /** The event that tells of it: its actor is the agent, its id the token's `jti`. */
  readonly event: RenderedEvent;
  readonly agentId: string;
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

/** What became of an issuance that was refused, and its place in the batch. */
type RefusedIssuance = Exclude<IssuanceOutcome, { outcome: 'issued' }> & { readonly at: number };

interface IssuedRow {
  refused: RefusedIssuance[] | null;
  key_version: number;
}

interface TiersRow {
  tiers: (Tier | null)[];
  key_version: number;
}

const ISSUED: IssuanceOutcome = { outcome: 'issued' };

// The version of the keys is read behind the flush, when it has its locks; the subquery is never merged into the rest.
const ISSUE_TOKENS = {
  name: 'issue_tokens',
  text: `SELECT f.refused, signing_key_set_version() AS key_version FROM (
    SELECT issue_tokens_together($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) AS refused) AS f`,
};

const TOKEN_TIERS = {
  name: 'token_tiers',
  text: `SELECT token_tiers($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::text[], $6::integer[], $7::integer[],
    $8::integer[]) AS tiers, (SELECT version FROM signing_key_set) AS key_version`,
};

/** What was read of shared state, and the version of our signing keys at the same time. */
export interface UnderKeys<Result> {
  readonly result: Result;
  readonly keyVersion: number;
}

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
   * @returns what became of each, in the order given, and the keys that were in force under its locks
   */
  async issue(issuances: readonly Issuance[]): Promise<readonly UnderKeys<IssuanceOutcome>[]> {
    const [row] = await this.statements.query<IssuedRow>(ISSUE_TOKENS, [
      plainArray(issuances.map(({ event }) => event.event.organizationId)),
      plainArray(issuances.map(({ agentId }) => agentId)),
      plainArray(issuances.map(({ credentialId }) => credentialId)),
      joinedTexts(issuances.map(({ generation }) => generation)),
      plainArray(issuances.map(({ month }) => month)),
      plainArray(issuances.map(({ event }) => event.eventId)),
      plainArray(issuances.map(({ event }) => event.occurredAt)),
      joinedTexts(issuances.map(({ event }) => event.event.origin.ip)),
      joinedTexts(issuances.map(({ event }) => event.event.origin.userAgent)),
      joinedTexts(issuances.map(({ event }) => event.details)),
      joinedTexts(issuances.map(({ event }) => event.head)),
      joinedTexts(issuances.map(({ event }) => event.tail)),
    ]);
    if (row === undefined) throw new Error('a flush of tokens told nothing');
    const issued: UnderKeys<IssuanceOutcome> = { result: ISSUED, keyVersion: row.key_version };
    const outcomes = issuances.map(() => issued);
    for (const { at, ...result } of row.refused ?? []) outcomes[at] = { result, keyVersion: row.key_version };
    return outcomes;
  }

  /** The tier of each token's organization, in the order given; null where the token is not alive. One query. */
  async tiers(tokens: readonly AccessTokenClaims[]): Promise<UnderKeys<readonly (Tier | null)[]>> {
    const generations = tokens.map(({ gen }) => generationsOf(gen) ?? [0, 0, 0]);
    const [row] = await this.statements.query<TiersRow>(TOKEN_TIERS, [
      plainArray(tokens.map(({ org }) => org)),
      plainArray(tokens.map(({ sub }) => sub)),
      plainArray(tokens.map(({ cred }) => cred)),
      plainArray(tokens.map(({ jti }) => jti)),
      textArray(tokens.map(({ scope }) => scope)),
      plainArray(generations.map(([organization]) => organization)),
      plainArray(generations.map(([, agent]) => agent)),
      plainArray(generations.map(([, , credential]) => credential)),
    ]);
    if (row === undefined) throw new Error('a lookup of tokens told nothing');
    return { result: row.tiers, keyVersion: row.key_version };
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
