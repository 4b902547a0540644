import { UNFINISHED_RESTORE } from '../database/unfinished-restore.js';
import { isUuid } from '../kernel/uuid.js';

/*
 * A backup is one file, compressed by gzip, whose checksum guards it. Inside are lines:
 *
 *   {"format":"agentidp-backup","version":1,…}     what the backup is of
 *   {"table":"agents","columns":["…"]}              then the table's rows in COPY's text format, then a line \.
 *   …
 *   {"end":true,"rows":{"agents":3,…}}              a file without it was interrupted
 *
 * Tables stand in an order in which each comes after those that it refers to. A row never is the line \. because COPY
 * writes a backslash as two.
 */

/** The first member of a backup. */
export const FORMAT = 'agentidp-backup';
/** A change that older releases cannot read takes the next number. */
export const FORMAT_VERSION = 1;

/** What a backup says of itself. */
export interface BackupHeader {
  readonly format: typeof FORMAT;
  readonly version: typeof FORMAT_VERSION;
  /** The release that wrote it. */
  readonly release: string;
  /** The instant of its snapshot, ISO 8601. */
  readonly takenAt: string;
  /** PostgreSQL's version, as `server_version_num`. */
  readonly server: number;
  /** The migrations of its schema, oldest first. */
  readonly migrations: readonly string[];
  /** The operator organization; null where the installation has none. */
  readonly operatorOrganization: string | null;
}

/** A table in a backup. */
export interface BackupTable {
  readonly table: string;
  readonly columns: readonly string[];
}

/** What ends a backup. */
export interface BackupEnd {
  readonly end: true;
  /** The number of rows of each table. */
  readonly rows: Readonly<Record<string, number>>;
}

/** A file that cannot be restored; the message says why, for people. */
export class BackupRefused extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'BackupRefused';
  }
}

/**
 * Tables that stand in every database and in no backup: what is restored is the schema of the migrations that the header
 * names, which our own ones make, and nothing that the file says makes them run again or leaves them out.
 */
export const NO_TABLES_OF_A_BACKUP: ReadonlySet<string> = new Set(['schema_migrations', UNFINISHED_RESTORE]);

/** What a release and a migration may be called; messages for people name them. */
const RELEASE = /^[0-9A-Za-z.+-]{1,64}$/;
const MIGRATION = /^\w{1,200}$/;
const INSTANT = /^[0-9TZ:.-]{1,40}$/;

/** Names of tables and columns that are put into statements; those of PostgreSQL's own catalogs are none of ours. */
const IDENTIFIER = /^(?!pg_)[a-z_][a-z0-9_]{0,62}$/;

/**
 * Reads the first line of a backup.
 *
 * @throws BackupRefused where it is none, or of a later release
 */
export function readHeader(line: string): BackupHeader {
  const value = parse(line) as Partial<BackupHeader> | null;
  if (value?.format !== FORMAT) throw new BackupRefused('The file is not a backup.');
  if (value.version !== FORMAT_VERSION) {
    if (!Number.isSafeInteger(value.version) || !isText(value.release, RELEASE)) throw notWhole();
    throw new BackupRefused(
      `The backup has the format ${String(value.version)}; this release reads ${FORMAT_VERSION}. Use the release that made it, ${value.release}, or a later one.`,
    );
  }
  const { release, takenAt, server, migrations, operatorOrganization } = value;
  const isWhole =
    isText(release, RELEASE) &&
    isText(takenAt, INSTANT) &&
    !Number.isNaN(Date.parse(takenAt)) &&
    typeof server === 'number' &&
    Array.isArray(migrations) &&
    migrations.length > 0 &&
    migrations.every((name) => isText(name, MIGRATION)) &&
    (operatorOrganization === null || (typeof operatorOrganization === 'string' && isUuid(operatorOrganization)));
  if (!isWhole) throw notWhole();
  return value as BackupHeader;
}

function notWhole(): BackupRefused {
  return new BackupRefused('The file is damaged: its first line is not whole.');
}

function isText(value: unknown, form: RegExp): value is string {
  return typeof value === 'string' && form.test(value);
}

/**
 * Reads the line before a table's rows, or the one that ends the backup.
 *
 * @throws BackupRefused where it is neither
 */
export function readSection(line: string): BackupTable | BackupEnd {
  const value = parse(line) as Partial<Record<'table' | 'columns' | 'end' | 'rows', unknown>> | null;
  if (value?.end === true && isCounts(value.rows)) return { end: true, rows: value.rows };
  const { table, columns } = value ?? {};
  const isTable =
    typeof table === 'string' &&
    Array.isArray(columns) &&
    columns.length > 0 &&
    [table, ...(columns as unknown[])].every((name) => isText(name, IDENTIFIER));
  if (!isTable) throw new BackupRefused('The file is damaged: a table has no name.');
  if (NO_TABLES_OF_A_BACKUP.has(table)) throw new BackupRefused(`The file is damaged: no backup holds ${table}.`);
  return { table, columns: columns as string[] };
}

function isCounts(rows: unknown): rows is BackupEnd['rows'] {
  return typeof rows === 'object' && rows !== null && Object.keys(rows).every((name) => isText(name, IDENTIFIER));
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return null;
  }
}
