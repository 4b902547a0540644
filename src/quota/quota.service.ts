import { Injectable } from '@nestjs/common';
import { AgentsService } from '../agents/agents.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';
import { Clock } from '../platform/kernel/clock.js';
import { formatMonth, monthOf, nextMonth } from '../platform/kernel/month.js';
import { problems } from '../platform/kernel/problem.js';
import type { QuotaView } from './dto/quota.view.js';
import { QuotaRepository } from './quota.repository.js';

/** Limits and the month's usage of organizations. */
@Injectable()
export class QuotaService {
  constructor(
    private readonly repository: QuotaRepository,
    private readonly organizations: OrganizationsService,
    private readonly agents: AgentsService,
    private readonly clock: Clock,
  ) {}

  /**
   * Limits and usage of an organization as they are now.
   *
   * @throws Problem `not_found`
   */
  async read(organizationId: string): Promise<QuotaView> {
    const now = this.clock.now();
    const limits = await this.organizations.limits(organizationId);
    const usage = await this.repository.usage(organizationId);
    if (usage === null) throw problems.notFound;
    // The ledger turns to the new month with its first token.
    const used = usage.month >= monthOf(now) ? usage.used : 0;
    const limit = limits.tokensPerMonth;
    return {
      tier: limits.tier,
      period: formatMonth(monthOf(now)),
      tokens: {
        limit,
        used,
        remaining: limit === null ? null : Math.max(0, limit - used),
        resetsAt: nextMonth(now).toISOString(),
      },
      agents: { limit: limits.agents, used: await this.agents.count(organizationId) },
    };
  }
}
