import { randomUUID } from 'node:crypto';
import type { TestApp } from './test-app.js';

/** Adds an organization, as the operator; its agents are made by the operator, who names it. */
export async function addOrganization(
  service: TestApp,
  operator: string,
  fields: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  const body = { name: 'another', slug: `another-${randomUUID().slice(0, 8)}`, tier: 'enterprise', ...fields };
  const created = await service.api.call('POST', '/organizations', operator, body);
  if (created.status !== 201) throw new Error(`no organization: ${created.status} ${created.text}`);
  return created.body['organizationId'] as string;
}

/** Suspends or reactivates an organization, as the operator. */
export async function turnOrganization(
  service: TestApp,
  operator: string,
  organizationId: string,
  act: 'suspend' | 'reactivate',
): Promise<void> {
  const { status, text } = await service.api.call('POST', `/organizations/${organizationId}/${act}`, operator);
  if (status !== 200) throw new Error(`no ${act}: ${status} ${text}`);
}
