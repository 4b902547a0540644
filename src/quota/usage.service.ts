import { Injectable } from '@nestjs/common';
import { AgentsService } from '../agents/agents.service.js';
import { RetentionService } from '../evidence/retention.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { Clock } from '../platform/kernel/clock.js';
import { problems } from '../platform/kernel/problem.js';
import type { UsageView } from './dto/usage.view.js';
import { UsageRepository, type UsageCount } from './usage.repository.js';

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;
/** The longest range of days that one answer has. */
const MAX_DAYS = 366;
const REFUSED = 'refused:';

/** What a day or a month adds up to. */
interface Sum {
  tokens: number;
  readonly refusals: Record<string, number>;
}

/** The usage of organizations by day and month, counted from the audit chain. */
@Injectable()
export class UsageService {
  constructor(
    private readonly repository: UsageRepository,
    private readonly organizations: OrganizationsService,
    private readonly agents: AgentsService,
    private readonly clock: Clock,
    retention: RetentionService,
  ) {
    // Usage is counted when it is read: what is not counted yet is counted before retention removes it.
    retention.register(async (organizationId, through) => {
      await this.repository.catchUp(organizationId);
      return through;
    });
  }

  /**
   * Usage up to the events that are committed when it is called.
   *
   * @param from the first day, UTC, as `2026-11-22`
   * @param to the last day
   * @throws Problem `not_found`, `validation_failed` for a reversed or too long range
   */
  async read(organizationId: string, from: string | undefined, to: string | undefined): Promise<UsageView> {
    const { organizationId: id } = await this.organizations.read(organizationId);
    const last = to ?? dayOf(this.clock.now());
    const first = from ?? dayOf(new Date(Date.parse(last) - DEFAULT_DAYS * DAY_MS));
    requireRange(first, last);
    await this.repository.catchUp(id);
    const yearAgo = firstOfMonth(last, -11);
    const counts = await this.repository.read(id, yearAgo < first ? yearAgo : first, last);
    const { agents: limit } = await this.organizations.limits(id);
    return {
      organizationId: id,
      from: first,
      to: last,
      days: sumBy(counts, first, ({ day }) => day).map(([day, sum]) => ({ day, ...sum })),
      months: sumBy(counts, yearAgo, ({ day }) => day.slice(0, 7)).map(([month, sum]) => ({ month, ...sum })),
      agents: { limit, used: await this.agents.count(id) },
    };
  }
}

function requireRange(first: string, last: string): void {
  const days = (Date.parse(last) - Date.parse(first)) / DAY_MS;
  if (days < 0) throw fault('is before the beginning of the range');
  if (days >= MAX_DAYS) throw fault(`the range may have at most ${MAX_DAYS} days`);
}

function fault(detail: string) {
  return problems.validationFailed.withErrors({ pointer: '/to', detail });
}

/** Adds up the counts from a day on, by what `key` gives, in the order of the days. */
function sumBy(counts: readonly UsageCount[], from: string, key: (count: UsageCount) => string): [string, Sum][] {
  const sums = new Map<string, Sum>();
  for (const count of counts) {
    if (count.day < from) continue;
    const sum = sums.get(key(count)) ?? { tokens: 0, refusals: {} };
    sums.set(key(count), sum);
    if (count.kind === 'issued') {
      sum.tokens += count.count;
    } else {
      const reason = count.kind.slice(REFUSED.length);
      sum.refusals[reason] = (sum.refusals[reason] ?? 0) + count.count;
    }
  }
  return [...sums];
}

function dayOf(instant: Date): string {
  return instant.toISOString().slice(0, 10);
}

/** The first day of the month that is `offset` months after that of `day`. */
function firstOfMonth(day: string, offset: number): string {
  return dayOf(new Date(Date.UTC(Number(day.slice(0, 4)), Number(day.slice(5, 7)) - 1 + offset, 1)));
}
