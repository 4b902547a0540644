import { Injectable } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { Config } from '../config/config.js';
import type { Principal } from '../kernel/principal.js';
import { Problem } from '../kernel/problem.js';
import type { Tier } from '../kernel/tier.js';

const WINDOW_SECONDS = 60;

/** One policy: how many requests a minute somebody has. */
interface Policy {
  readonly name: 'principal' | 'organization';
  readonly quota: number;
  readonly limiter: RateLimiterMemory;
}

/** What a policy says of a request. */
interface Standing {
  readonly policy: Policy;
  readonly exceeded: boolean;
  readonly remaining: number;
  readonly resetSeconds: number;
}

/**
 * How many requests principals and organizations may make to the management endpoints, by tier. Counted in memory, for
 * each replica: a request costs no statement, and a limit that is exact over all replicas is the quota's business.
 * Answers carry `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
 */
@Injectable()
export class RateLimits {
  private readonly policies: Readonly<Record<Tier, readonly Policy[]>>;

  constructor({ abuse }: Config) {
    const of = (tier: Tier): readonly Policy[] => {
      const quota = abuse.requests[tier];
      return quota === 0 ? [] : [policy('principal', quota), policy('organization', quota * abuse.organizationFactor)];
    };
    this.policies = { free: of('free'), pro: of('pro'), enterprise: of('enterprise') };
  }

  /**
   * Counts a request, and tells the caller how it stands. One that its principal may not make does not count for the
   * organization.
   *
   * @throws Problem `rate_limited` with `Retry-After`
   */
  async admit(principal: Principal, reply: FastifyReply): Promise<void> {
    const policies = this.policies[principal.tier];
    if (policies.length === 0) return;
    const standings: Standing[] = [];
    for (const each of policies) {
      const key = each.name === 'principal' ? principal.agentId : principal.organizationId;
      const standing = await take(each, key);
      standings.push(standing);
      if (standing.exceeded) break;
    }
    reply.header('ratelimit-policy', policies.map(policyItem).join(', '));
    reply.header('ratelimit', standings.map(standingItem).join(', '));
    const exceeded = standings.find((standing) => standing.exceeded);
    if (exceeded !== undefined) throw refusal(exceeded);
  }
}

function policy(name: Policy['name'], quota: number): Policy {
  return { name, quota, limiter: new RateLimiterMemory({ points: quota, duration: WINDOW_SECONDS }) };
}

async function take(taken: Policy, key: string): Promise<Standing> {
  try {
    return standingOf(taken, await taken.limiter.consume(key), false);
  } catch (error) {
    // The library rejects with the state where the limit is exceeded.
    if (error instanceof RateLimiterRes) return standingOf(taken, error, true);
    throw error;
  }
}

function standingOf(taken: Policy, state: RateLimiterRes, exceeded: boolean): Standing {
  return {
    policy: taken,
    exceeded,
    remaining: Math.max(0, state.remainingPoints),
    resetSeconds: Math.max(1, Math.ceil(state.msBeforeNext / 1000)),
  };
}

function policyItem({ name, quota }: Policy): string {
  return `"${name}";q=${quota};w=${WINDOW_SECONDS}`;
}

function standingItem({ policy: { name }, remaining, resetSeconds }: Standing): string {
  return `"${name}";r=${remaining};t=${resetSeconds}`;
}

function refusal({ policy: { name, quota }, resetSeconds }: Standing): Problem {
  const who = name === 'principal' ? 'An agent' : 'All agents of an organization together';
  return new Problem('rate_limited', {
    detail: `${who} may make ${quota.toLocaleString('en-US')} requests a minute in this tier.`,
    headers: { 'Retry-After': String(resetSeconds) },
  });
}
