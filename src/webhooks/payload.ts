/**
 * The body of a message in the shape that Standard Webhooks recommends.
 *
 * @param type the name of the event
 * @param timestamp when it happened: ISO 8601, UTC
 * @param data what happened
 */
export function renderPayload(type: string, timestamp: string, data: object): string {
  return JSON.stringify({ type, timestamp, data });
}
