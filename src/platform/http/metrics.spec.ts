import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { Metrics } from './metrics.js';

let metrics: Metrics;
beforeEach(() => {
  metrics = new Metrics();
});
afterEach(() => metrics.onApplicationShutdown());

it('renders what was counted', async () => {
  metrics.tokensIssued();
  metrics.tokensIssued(2);
  metrics.tokenRefused('quota_reached');
  metrics.introspected(true);
  metrics.revoked();
  metrics.clientAuthenticationFailed('private_key_jwt');
  metrics.flushed('tokens', 3, 0.002);
  metrics.observeQueue('tokens', () => 5);
  metrics.observePool({ totalCount: 4, idleCount: 3, waitingCount: 2 });
  const text = await metrics.render();
  for (const line of [
    'agentidp_tokens_issued_total 3',
    'agentidp_token_refusals_total{reason="quota_reached"} 1',
    'agentidp_introspections_total{result="active"} 1',
    'agentidp_revocations_total 1',
    'agentidp_client_authentication_failures_total{method="private_key_jwt"} 1',
    'agentidp_flush_size_bucket{le="4",queue="tokens"} 1',
    'agentidp_flush_seconds_count{queue="tokens"} 1',
    'agentidp_queue_depth{queue="tokens"} 5',
    'agentidp_pg_pool_connections{state="waiting"} 2',
  ]) {
    expect(text).toContain(line);
  }
  expect(text).toMatch(/agentidp_process_cpu_seconds_total [\d.]+/);
  expect(text).toMatch(/agentidp_nodejs_eventloop_utilization [\d.e-]+/);
});

it('shares nothing with other instances and forgets everything at shutdown', async () => {
  const other = new Metrics();
  other.tokensIssued();
  expect(await metrics.render()).toContain('agentidp_tokens_issued_total 0');
  other.onApplicationShutdown();
  expect((await other.render()).trim()).toBe('');
});
