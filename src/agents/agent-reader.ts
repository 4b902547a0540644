import { Injectable, type OnApplicationShutdown } from '@nestjs/common';
import { LookupCoalescer } from '../platform/database/lookup-coalescer.js';
import { Metrics } from '../platform/http/metrics.js';
import type { AgentEntity } from './agent.entity.js';
import { AgentsRepository, type AgentKey } from './agents.repository.js';

/** Agents that may wait for the next lookup. */
const LOOKUP_LIMITS = { maxQueue: 5000, maxBatch: 200 };

/** Reads single agents. Every read asks the shared state; those that come together share one query. */
@Injectable()
export class AgentReader implements OnApplicationShutdown {
  private readonly lookup: LookupCoalescer<AgentKey, AgentEntity | null>;

  constructor(repository: AgentsRepository, metrics: Metrics) {
    this.lookup = new LookupCoalescer(
      'agents',
      LOOKUP_LIMITS,
      (keys) => repository.findAll(keys),
      (size, seconds) => metrics.flushed('agents', size, seconds),
    );
    metrics.observeQueue('agents', () => this.lookup.depth);
  }

  /** @returns null where the organization has no such agent */
  read(key: AgentKey): Promise<AgentEntity | null> {
    return this.lookup.read(key);
  }

  /** Ends the lookups once the server has answered its last request. */
  async onApplicationShutdown(): Promise<void> {
    await this.lookup.drain();
  }
}
