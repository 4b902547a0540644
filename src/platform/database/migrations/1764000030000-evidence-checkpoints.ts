import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Signed checkpoints over the audit chain, the Merkle tree beneath them, and a log that only grows. */
export class EvidenceCheckpoints1764000030000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(KEY_PURPOSE);
    await runner.query(TREES_AND_CHECKPOINTS);
    await runner.query(APPEND_ONLY);
    await runner.query(RETENTION);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/** One active key for each purpose: what signs access tokens never signs checkpoints. */
const KEY_PURPOSE = `
ALTER TABLE signing_keys ADD COLUMN purpose text NOT NULL DEFAULT 'access_token'
  CHECK (purpose IN ('access_token', 'audit'));
DROP INDEX signing_keys_one_active;
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (purpose) WHERE phase = 'active';
`;

/**
 * `audit_trees`: how far the tree over an organization's chain has grown (`size` events, the last with `chain_hash`),
 * its newest checkpoint, and what retention has removed, with the signed statement of it (`cut`).
 *
 * `audit_tree_tiles`: the hashes of complete subtrees, 256 to a row. Level 0 holds leaf hashes, level n the roots of
 * complete tiles of level n - 1: 32 bytes an event. Kept for ever, so that proofs outlive retention. Level 0 also tells
 * when its events occurred, which leads searches by time. Random bytes do not compress, so they are not tried.
 */
const TREES_AND_CHECKPOINTS = `
CREATE TABLE audit_trees (
  organization_id uuid PRIMARY KEY,
  size bigint NOT NULL DEFAULT 0,
  chain_hash bytea,
  checkpoint_sequence bigint NOT NULL DEFAULT 0,
  checkpoint_hash bytea,
  removed_through bigint NOT NULL DEFAULT 0,
  cut text
);

CREATE TABLE audit_tree_tiles (
  organization_id uuid NOT NULL,
  level smallint NOT NULL,
  tile bigint NOT NULL,
  hashes bytea NOT NULL,
  oldest_at timestamptz(3),
  newest_at timestamptz(3),
  PRIMARY KEY (organization_id, level, tile)
);
ALTER TABLE audit_tree_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE audit_checkpoints (
  organization_id uuid NOT NULL,
  sequence bigint NOT NULL,
  checkpoint text NOT NULL,
  issued_at timestamptz(3) NOT NULL,
  PRIMARY KEY (organization_id, sequence)
);
CREATE INDEX audit_checkpoints_by_time ON audit_checkpoints (organization_id, issued_at);
`;

/**
 * The log, the checkpoints and the tree only grow, whichever role asks and whatever it was granted: a tile may get more
 * hashes behind those that it has, an event may go only where retention has cut. A session of a superuser passes; it
 * could switch the triggers off anyway, and what it changes is what verification finds.
 */
const APPEND_ONLY = `
CREATE FUNCTION refuse_audit_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
    RAISE EXCEPTION 'the audit log is append-only: % on % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = '42501';
  END IF;
  RETURN NULL;
END
$$;

CREATE FUNCTION refuse_audit_removal() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
    RETURN OLD;
  END IF;
  PERFORM 1
    FROM audit_trees a
    JOIN organizations o ON o.organization_id = a.organization_id
    JOIN tiers t ON t.name = o.tier
    WHERE a.organization_id = OLD.organization_id
      AND OLD.sequence <= a.removed_through AND OLD.sequence <= a.checkpoint_sequence
      AND OLD.occurred_at < now() - make_interval(days =>
        coalesce(o.limit_audit_retention_days, t.audit_retention_days)::integer);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the audit log is append-only: event % is not to be removed', OLD.sequence USING ERRCODE = '42501';
  END IF;
  RETURN OLD;
END
$$;

CREATE FUNCTION refuse_tile_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  IF (NEW.organization_id, NEW.level, NEW.tile) = (OLD.organization_id, OLD.level, OLD.tile)
      AND substring(NEW.hashes FROM 1 FOR octet_length(OLD.hashes)) = OLD.hashes
      OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = session_user) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'a tile of the audit tree only grows' USING ERRCODE = '42501';
END
$$;

CREATE TRIGGER audit_events_append_only BEFORE UPDATE OR TRUNCATE ON audit_events
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_events_removal BEFORE DELETE ON audit_events
  FOR EACH ROW EXECUTE FUNCTION refuse_audit_removal();
CREATE TRIGGER audit_checkpoints_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_tree_tiles_append_only BEFORE DELETE OR TRUNCATE ON audit_tree_tiles
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_tree_tiles_growth BEFORE UPDATE ON audit_tree_tiles
  FOR EACH ROW EXECUTE FUNCTION refuse_tile_change();
`;

/**
 * Removes up to `p_batch` of the oldest events of a chain, none beyond `p_through`, which has to be the place of a
 * checkpoint and older than the tier's retention; the trigger above checks each event once more. `p_cut` is the signed
 * statement that verification asks for. It locks neither the ledger nor an event that is not removed, so that issuance
 * does not wait.
 */
const RETENTION = `
CREATE FUNCTION remove_audit_prefix(p_organization uuid, p_through bigint, p_cut text, p_batch integer)
RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
DECLARE
  v_days bigint;
  v_removed bigint;
BEGIN
  SELECT coalesce(o.limit_audit_retention_days, t.audit_retention_days) INTO v_days
    FROM organizations o JOIN tiers t ON t.name = o.tier WHERE o.organization_id = p_organization;
  IF v_days IS NULL THEN
    RAISE EXCEPTION 'the audit log of organization % is kept without limit', p_organization USING ERRCODE = '42501';
  END IF;
  PERFORM 1 FROM audit_checkpoints c
    WHERE c.organization_id = p_organization AND c.sequence = p_through
      AND c.issued_at < now() - make_interval(days => v_days::integer);
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no checkpoint at % that is old enough', p_through USING ERRCODE = '42501';
  END IF;
  UPDATE audit_trees a SET removed_through = p_through, cut = p_cut
    WHERE a.organization_id = p_organization AND a.removed_through < p_through;
  DELETE FROM audit_events e
    WHERE e.organization_id = p_organization AND e.sequence <= p_through AND e.sequence IN (
      SELECT f.sequence FROM audit_events f
        WHERE f.organization_id = p_organization ORDER BY f.sequence LIMIT p_batch);
  GET DIAGNOSTICS v_removed = ROW_COUNT;
  RETURN v_removed;
END
$$;
REVOKE ALL ON FUNCTION remove_audit_prefix(uuid, bigint, text, integer) FROM PUBLIC;
`;
