import { Injectable, Logger, type BeforeApplicationShutdown } from '@nestjs/common';
import { SealBroken, Sealer } from '../kernel/sealer.js';
import { UnitOfWork } from './unit-of-work.js';

/** Secrets that one statement seals anew: few, so that nothing waits for it. */
const BATCH = 200;

/** A column that holds secrets sealed under the master key. */
export interface SealedColumn {
  readonly table: string;
  readonly column: string;
  /** The column that tells rows apart, and its type. */
  readonly key: string;
  readonly keyType: 'text' | 'uuid';
  /** What the secret of a row was sealed for. */
  readonly purposeOf: (key: string) => string;
}

/** How many secrets are sealed under which master key. */
export interface SealedCounts {
  readonly present: number;
  readonly previous: number;
  /** Under a key that this process does not have. */
  readonly unknown: number;
}

interface SealedRow {
  key: string;
  sealed: Buffer;
}

/**
 * Changes the master key: seals every secret anew that the previous one sealed. The rooms name their columns. A secret is
 * replaced only where it is still the one that was read, each batch is a statement of its own, and what is done is seen
 * by the secrets themselves: so it may be broken off, begun again, and done by several processes at once.
 */
@Injectable()
export class Resealing implements BeforeApplicationShutdown {
  private readonly logger = new Logger(Resealing.name);
  private readonly columns: SealedColumn[] = [];
  private running: Promise<void> | null = null;
  private closed = false;

  constructor(
    private readonly unitOfWork: UnitOfWork,
    private readonly sealer: Sealer,
  ) {}

  /** Names columns; for the rooms that seal, when they are built. */
  register(...columns: readonly SealedColumn[]): void {
    this.columns.push(...columns);
  }

  /**
   * Makes sure that there is no secret that this process could not open.
   *
   * @throws SealBroken
   */
  async requireKnown(): Promise<void> {
    for (const column of this.columns) {
      const { unknown } = await this.countIn(column);
      if (unknown > 0) throw new SealBroken(`${column.table}.${column.column}`);
    }
  }

  /** How many secrets are sealed under which key. */
  async count(): Promise<SealedCounts> {
    const counts = await Promise.all(this.columns.map((column) => this.countIn(column)));
    const total = (name: keyof SealedCounts): number => counts.reduce((sum, each) => sum + each[name], 0);
    return { present: total('present'), previous: total('previous'), unknown: total('unknown') };
  }

  /** Begins to seal anew in the background, where there is a previous key, and says in the log when it is done. */
  start(): void {
    if (this.sealer.previousId === null || this.running !== null) return;
    this.running = this.resealAll().then(
      (count) => {
        if (!this.closed) this.logger.warn(`${count} secrets were sealed anew. ${whatIsLeft(0)}`);
      },
      (error: unknown) => {
        if (!this.closed) this.logger.error(`not all secrets could be sealed anew: ${String(error)}`);
      },
    );
  }

  /**
   * Seals every secret anew that the previous key sealed.
   *
   * @returns how many there were
   */
  async resealAll(): Promise<number> {
    let total = 0;
    for (const column of this.columns) {
      for (;;) {
        const count = this.closed ? 0 : await this.resealSome(column);
        if (count === 0) break;
        total += count;
      }
    }
    return total;
  }

  /** Waits for the batch that is under way. */
  async beforeApplicationShutdown(): Promise<void> {
    this.closed = true;
    await this.running;
  }

  private async resealSome({ table, column, key, keyType, purposeOf }: SealedColumn): Promise<number> {
    const rows = await this.unitOfWork.reader.query<SealedRow[]>(
      `SELECT ${key}::text AS key, ${column} AS sealed FROM ${table}
        WHERE octet_length(${column}) > 4 AND substring(${column} FROM 2 FOR 4) = $1 LIMIT ${BATCH}`,
      [this.sealer.previousId],
    );
    if (rows.length === 0) return 0;
    const fresh = rows.map((row) =>
      this.sealer.seal(this.sealer.open(row.sealed, purposeOf(row.key)), purposeOf(row.key)),
    );
    await this.unitOfWork.reader.query(
      `UPDATE ${table} AS t SET ${column} = n.fresh
        FROM unnest($1::${keyType}[], $2::bytea[], $3::bytea[]) AS n (key, sealed, fresh)
        WHERE t.${key} = n.key AND t.${column} = n.sealed`,
      [rows.map((row) => row.key), rows.map((row) => row.sealed), fresh],
    );
    return rows.length;
  }

  private async countIn({ table, column }: SealedColumn): Promise<SealedCounts> {
    const { presentId, previousId } = this.sealer;
    const [row] = await this.unitOfWork.reader.query<Record<keyof SealedCounts, string>[]>(
      `SELECT count(*) FILTER (WHERE s.id = $1) AS present, count(*) FILTER (WHERE s.id = $2) AS previous,
          count(*) FILTER (WHERE s.id NOT IN ($1, coalesce($2, $1))) AS unknown
        FROM (SELECT substring(${column} FROM 2 FOR 4) AS id FROM ${table} WHERE octet_length(${column}) > 4) AS s`,
      [presentId, previousId],
    );
    return { present: Number(row?.present), previous: Number(row?.previous), unknown: Number(row?.unknown) };
  }
}

/** What the operator may do next. */
export function whatIsLeft(previous: number): string {
  return previous === 0
    ? 'None is left under the previous master key: once every replica has the new one, it can be removed.'
    : `${previous} are left under the previous master key: others still seal with it.`;
}
