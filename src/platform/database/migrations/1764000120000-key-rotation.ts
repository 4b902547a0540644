import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What the rotation of signing keys needs: when each phase began, what was promised, and which set of keys is in force. */
export class KeyRotation1764000120000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(LIVES);
    await runner.query(KEY_SET);
    await runner.query(REMOVAL);
  }

  async down(): Promise<void> {
    throw new Error('migrations only go forward');
  }
}

/**
 * `token_ttl_seconds` and `jwks_max_age_seconds` are the most that any replica gives tokens and caches while the key
 * signs or is published ahead. What a replica of the version before makes gets the most that can be configured. The
 * schedule of a key that signs already begins with the upgrade, so that it is not replaced while the version before
 * serves, which would not notice.
 */
const LIVES = `
ALTER TABLE signing_keys
  ADD COLUMN published_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
  ADD COLUMN activated_at timestamptz(3),
  ADD COLUMN revoked_at timestamptz(3),
  ADD COLUMN token_ttl_seconds integer NOT NULL DEFAULT 86400,
  ADD COLUMN jwks_max_age_seconds integer NOT NULL DEFAULT 86400;
UPDATE signing_keys SET published_at = created_at,
  activated_at = CASE WHEN phase = 'active' THEN clock_timestamp() ELSE created_at END;
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys (purpose) WHERE phase = 'next';
CREATE INDEX signing_keys_newest_first ON signing_keys (created_at DESC, kid DESC);
`;

/**
 * One row. `version` counts the changes of the set of keys, whoever makes them; a replica that has loaded another one
 * loads anew before it answers. `algorithm` is the one that access tokens are to be signed with: that of the replica
 * that was started last.
 *
 * The function is read after a flush has its locks, in a snapshot of its own.
 */
const KEY_SET = `
CREATE TABLE signing_key_set (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  version integer NOT NULL,
  algorithm text
) WITH (fillfactor = 20);
INSERT INTO signing_key_set (version) VALUES (1);

CREATE FUNCTION count_signing_key_change() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
  UPDATE signing_key_set SET version = version + 1;
  RETURN NULL;
END
$$;
CREATE TRIGGER signing_keys_changed AFTER INSERT OR DELETE OR UPDATE OF phase ON signing_keys
  FOR EACH STATEMENT EXECUTE FUNCTION count_signing_key_change();

CREATE FUNCTION signing_key_set_version() RETURNS integer
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
  RETURN (SELECT s.version FROM signing_key_set s);
END
$$;
`;

/**
 * Removes a key that nothing needs any more: one that has never signed, one whose last token has expired, or one that
 * was revoked a month ago. The serving role can delete no other.
 */
const REMOVAL = `
CREATE FUNCTION remove_signing_key(p_kid text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = public, pg_temp
AS $$
BEGIN
  DELETE FROM signing_keys k WHERE k.kid = p_kid AND (
    k.phase = 'next'
    OR k.phase = 'retired' AND k.purpose = 'access_token'
      AND k.retired_at + make_interval(secs => k.token_ttl_seconds) < clock_timestamp()
    OR k.phase = 'revoked' AND k.revoked_at < clock_timestamp() - interval '30 days');
  RETURN FOUND;
END
$$;
REVOKE ALL ON FUNCTION remove_signing_key(text) FROM PUBLIC;
`;
