import { Injectable } from '@nestjs/common';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import type { CalendarMonth } from '../platform/kernel/month.js';

/** All SQL that reads quotas; consuming one is part of issuing tokens. */
@Injectable()
export class QuotaRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  /** The tokens that an organization was issued in the month that its ledger counts. */
  async usage(organizationId: string): Promise<{ month: CalendarMonth; used: number } | null> {
    const rows = await this.unitOfWork.reader.query<{ quota_month: number; tokens_used: string }[]>(
      'SELECT quota_month, tokens_used FROM organization_ledgers WHERE organization_id = $1',
      [organizationId],
    );
    const row = rows[0];
    return row === undefined ? null : { month: row.quota_month, used: Number(row.tokens_used) };
  }
}
