import type { Client } from 'pg';
import type { Passwords } from './cluster.js';

/** The role that owns the database and its tables: migrations run as it. Not a superuser. */
export const OWNING_ROLE = 'agentidp_owner';
/** The role that serves requests: it may connect and owns nothing; migrations grant it what it needs. */
export const SERVING_ROLE = 'agentidp_service';

/**
 * Makes the two roles and the database where they are missing. Every step stands alone and is repeated by the next
 * start if this one dies in between.
 *
 * @param superuser a connection that holds the data directory, so that nobody does the same meanwhile
 */
export async function provision(superuser: Client, passwords: Passwords, database: string): Promise<void> {
  await ensureRole(superuser, OWNING_ROLE, passwords.owning);
  await ensureRole(superuser, SERVING_ROLE, passwords.serving);
  const name = superuser.escapeIdentifier(database);
  const { rowCount } = await superuser.query('SELECT 1 FROM pg_database WHERE datname = $1', [database]);
  if (rowCount === 0) await superuser.query(`CREATE DATABASE ${name} OWNER ${OWNING_ROLE}`);
  await superuser.query(`REVOKE ALL ON DATABASE ${name} FROM PUBLIC`);
  await superuser.query(`GRANT CONNECT ON DATABASE ${name} TO ${SERVING_ROLE}`);
}

async function ensureRole(superuser: Client, role: string, password: string): Promise<void> {
  const { rowCount } = await superuser.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [role]);
  if (rowCount !== 0) return;
  const rights = 'LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS';
  await superuser.query(`CREATE ROLE ${role} ${rights} PASSWORD ${superuser.escapeLiteral(password)}`);
}
