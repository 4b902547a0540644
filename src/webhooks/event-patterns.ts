import { ValidateBy } from 'class-validator';
import { AUDIT_ACTIONS } from '../platform/kernel/audit-event.js';

/** The type of the event that is sent to try a subscription out. */
export const TEST_EVENT = 'webhook.test';

/** What `events` of a subscription may name: each audit action, each family of them, and all. */
export const EVENT_PATTERNS: readonly string[] = [
  '*',
  ...new Set(AUDIT_ACTIONS.map((action) => `${action.split('.')[0]}.*`)),
  ...AUDIT_ACTIONS,
];

/** A pattern that names at least one event there is. */
export function IsEventPattern(): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isEventPattern',
      validator: {
        validate: (value) => typeof value === 'string' && EVENT_PATTERNS.includes(value),
        defaultMessage: () => 'must be the name of an event, a family of events such as agent.*, or *',
      },
    },
    { each: true },
  );
}
