import { Injectable } from '@nestjs/common';
import type { RevokedCounts } from '../evidence/revocation-receipts.service.js';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { AuditAction } from '../platform/kernel/audit-event.js';
import { firstUuidAt } from '../platform/kernel/uuid.js';
import type { Subject } from './revocation-subjects.js';

/** No token lives longer (24 hours), and the clock of another replica may be an hour behind. */
const OLDEST_TOKEN_MS = 25 * 3_600_000;

/** The acts that end tokens, as far as the log tells which. */
const ENDING_ACTS: readonly AuditAction[] = [
  'organization.suspended',
  'organization.restored',
  'organization.tokens_revoked',
  'agent.suspended',
  'agent.decommissioned',
  'agent.tokens_revoked',
  'agent.updated',
  'credential.revoked',
  'credential.tokens_revoked',
  'federation.tokens_revoked',
  'federation.partner_deleted',
  'resource.updated',
  'resource.deleted',
];

/** `jti` is below this where the token was issued before the instant; as `firstUuidAt` renders it. */
const BELOW = `(lpad(to_hex(greatest(floor(extract(epoch FROM (k.details ->> 'issuedBefore')::timestamptz) * 1000), 0)::bigint), 12, '0')
  || '70008000000000000000')::uuid`;

/* eslint-disable no-restricted-syntax -- which tokens are concerned is one of a few fixed conditions */
/**
 * Counts the tokens of a subject that are alive, by agent and credential: issued in the last day, not expired, not
 * revoked singly, and no act behind them in the chain has ended them. The chain's order is the order in which issuance
 * and revocation held the organization's lock, so the count is exact for each act in it that names its tokens. An act up
 * to an instant that a later one on the same subject covers is left out, and so are repeated acts on one scope: each token
 * is compared with what is left, which is one act on each subject where instants do not go back.
 *
 * Ids are compared as text, for want of a `max(uuid)`; in the collation "C" their order is the same.
 *
 * $1 organization, $2 the least `jti` of a day ago, $3 the acts, $4 the sequence that the count ends before, $5 now in
 * seconds, $6 the first `jti` that is kept, or null.
 */
const countStatement = (concerned: string) => `
WITH day AS MATERIALIZED (
  SELECT coalesce((SELECT e.sequence FROM audit_events e WHERE e.organization_id = $1 AND e.event_id < $2
    ORDER BY e.event_id DESC LIMIT 1), 0) AS began),
acts AS MATERIALIZED (
  SELECT k.sequence, k.action, k.target_id, k.details, CASE WHEN k.details ->> 'issuedBefore' IS NOT NULL THEN ${BELOW} END AS below
    FROM audit_events k
    WHERE k.organization_id = $1 AND k.action <> 'token.issued' AND k.action = ANY ($3::text[])
      AND k.sequence > (SELECT began FROM day) AND k.sequence < $4
      AND CASE WHEN k.action = 'credential.revoked' THEN k.details ->> 'keepTokens' = 'false'
        WHEN k.action IN ('agent.updated', 'resource.updated', 'resource.deleted')
          THEN k.details -> 'scopesRemoved' <> '[]'
        ELSE true END),
first AS MATERIALIZED (
  SELECT greatest((SELECT began FROM day), (SELECT max(sequence) FROM acts
    WHERE action LIKE 'organization.%' AND below IS NULL)) AS sequence),
ended_agents AS MATERIALIZED (
  SELECT target_id::uuid AS agent_id, max(sequence) AS sequence FROM acts
    WHERE action IN ('agent.suspended', 'agent.decommissioned', 'agent.tokens_revoked') AND below IS NULL GROUP BY 1),
ended_credentials AS MATERIALIZED (
  SELECT credential_id, max(sequence) AS sequence FROM (
    SELECT target_id AS credential_id, sequence FROM acts WHERE action LIKE 'credential.%' AND below IS NULL
    UNION ALL
    SELECT c.credential_id::text, a.sequence FROM acts a
      JOIN credentials c ON c.organization_id = $1 AND c.partner_id = a.target_id::uuid
      WHERE a.action = 'federation.tokens_revoked' AND a.below IS NULL
    UNION ALL
    SELECT c.credential_id::text, $4 FROM credentials c
      WHERE c.organization_id = $1 AND c.kind = 'federated' AND c.partner_id IS NULL
        AND EXISTS (SELECT 1 FROM acts WHERE action = 'federation.partner_deleted')) each
    GROUP BY 1),
ended_earlier AS MATERIALIZED (
  SELECT a.sequence, a.below, a.action, a.target_id, c.credential_id::text AS credential_id
    FROM (SELECT sequence, below, action, target_id, max(below::text COLLATE "C") OVER (PARTITION BY action, target_id
        ORDER BY sequence DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS later
      FROM acts WHERE below IS NOT NULL) a
    LEFT JOIN credentials c ON a.action = 'federation.tokens_revoked' AND c.organization_id = $1
      AND c.partner_id = a.target_id::uuid
    WHERE a.later IS NULL OR a.below::text COLLATE "C" > a.later),
scopes_taken AS MATERIALIZED (
  SELECT sequence, agent_id, array_agg(scope) AS scopes FROM (
    SELECT max(sequence) AS sequence, CASE WHEN action = 'agent.updated' THEN target_id::uuid END AS agent_id, t.scope
      FROM acts, jsonb_array_elements_text(details -> 'scopesRemoved') AS t (scope)
      WHERE action IN ('agent.updated', 'resource.updated', 'resource.deleted') GROUP BY 2, 3) latest
    GROUP BY 1, 2),
alive AS (
  SELECT e.actor, e.details ->> 'credentialId' AS credential_id, count(*) AS tokens
    FROM audit_events e
    LEFT JOIN ended_agents ea ON ea.agent_id = e.actor
    LEFT JOIN ended_credentials ec ON ec.credential_id = e.details ->> 'credentialId'
    WHERE e.organization_id = $1 AND e.action = 'token.issued' AND e.actor IS NOT NULL
      AND e.sequence > (SELECT sequence FROM first) AND e.sequence < $4
      AND ($6::uuid IS NULL OR e.event_id < $6::uuid)
      AND (e.details ->> 'expiresAt')::bigint > $5
      AND ${concerned}
      AND (ea.sequence IS NULL OR e.sequence > ea.sequence)
      AND (ec.sequence IS NULL OR e.sequence > ec.sequence)
      AND NOT EXISTS (SELECT 1 FROM token_revocations r WHERE r.organization_id = $1 AND r.jti = e.event_id)
      AND NOT EXISTS (SELECT 1 FROM ended_earlier k WHERE k.sequence > e.sequence AND e.event_id < k.below
        AND CASE WHEN k.action LIKE 'organization.%' THEN true WHEN k.action LIKE 'agent.%' THEN k.target_id = e.actor::text
          ELSE coalesce(k.credential_id, k.target_id) = e.details ->> 'credentialId' END)
      AND NOT EXISTS (SELECT 1 FROM scopes_taken k WHERE k.sequence > e.sequence
        AND (k.agent_id IS NULL OR k.agent_id = e.actor)
        AND string_to_array(e.details ->> 'scope', ' ') && k.scopes)
    GROUP BY 1, 2)
SELECT count(DISTINCT actor) AS agents, count(*) AS credentials, coalesce(sum(tokens), 0) AS tokens FROM alive`;
/* eslint-enable no-restricted-syntax */

/** Behind every chain. */
const NO_END = 2 ** 53 - 1;

/** Reads from the audit log which tokens are alive. */
@Injectable()
export class LivingTokensRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /**
   * Counts the tokens of a subject that are alive. Reads a day of the chain at most, and gives up at the time limit of
   * statements.
   *
   * @param issuedBefore only those issued before this instant; null: all
   * @param before those that the chain holds before this sequence, as it was there; null: all
   */
  async count(
    subject: Subject,
    issuedBefore: Date | null,
    before: number | null,
    now: Date,
  ): Promise<{ [Name in keyof RevokedCounts]: number }> {
    const [concerned, values] = concernedBy(subject);
    const rows = await this.unitOfWork.run(async (transaction) => {
      // Compiling would take longer than it saves.
      await transaction.query("SELECT set_config('jit', 'off', true)");
      return transaction.query<{ agents: string; credentials: string; tokens: string }[]>(countStatement(concerned), [
        subject.organizationId,
        firstUuidAt(new Date(now.getTime() - OLDEST_TOKEN_MS)),
        ENDING_ACTS,
        before ?? NO_END,
        Math.floor(now.getTime() / 1000),
        issuedBefore === null ? null : firstUuidAt(issuedBefore),
        ...values,
      ]);
    });
    const [row] = rows;
    return {
      agents: Number(row?.agents ?? 0),
      credentials: Number(row?.credentials ?? 0),
      tokens: Number(row?.tokens ?? 0),
    };
  }
}

/** The condition that an event is about a token of the subject, with parameters from `$7` on. */
function concernedBy(subject: Subject): [condition: string, values: readonly string[]] {
  switch (subject.kind) {
    case 'organization':
      return ['true', []];
    case 'agent':
      return ['e.actor = $7::uuid', [subject.agentId]];
    case 'credential':
      return [
        "e.actor = $7::uuid AND e.details ->> 'credentialId' = $8",
        [subject.credential.agentId, subject.credential.credentialId],
      ];
    case 'partner':
      return [
        `EXISTS (SELECT 1 FROM credentials p WHERE p.organization_id = $1 AND p.partner_id = $7::uuid
          AND p.agent_id = e.actor AND p.credential_id::text = e.details ->> 'credentialId')`,
        [subject.partnerId],
      ];
  }
}
