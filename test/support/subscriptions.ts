import type { Api } from './api.js';

/** A subscription, with the secret that its receiver has. */
export interface Subscription {
  readonly webhookId: string;
  readonly signingSecret: string;
}

/** A delivery as callers see it. */
export interface DeliveryBody {
  readonly deliveryId: string;
  readonly event: string;
  readonly eventId: string;
  readonly status: string;
  readonly attempts: readonly {
    readonly at: string;
    readonly statusCode: number | null;
    readonly error: string | null;
    readonly durationMs: number;
    readonly answer: string | null;
  }[];
  readonly nextAttemptAt: string | null;
  readonly createdAt: string;
}

/** Subscribes a URL to events, as whoever `token` names. */
export async function subscribe(api: Api, token: string, url: string, events: string[]): Promise<Subscription> {
  const { status, body, text } = await api.call('POST', '/webhooks', token, { url, events });
  if (status !== 201) throw new Error(`no subscription: ${status} ${text}`);
  return body as unknown as Subscription;
}

/** The first page of a subscription's history, newest first. */
export async function deliveriesOf(api: Api, token: string, webhookId: string, query = ''): Promise<DeliveryBody[]> {
  const { status, body, text } = await api.call<{ data: DeliveryBody[] }>(
    'GET',
    `/webhooks/${webhookId}/deliveries${query}`,
    token,
  );
  if (status !== 200) throw new Error(`no deliveries: ${status} ${text}`);
  return body.data;
}
