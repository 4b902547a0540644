import { ValidateBy } from 'class-validator';
import { AUDIT_ACTIONS } from '../platform/kernel/audit-event.js';

/** The type of the event that is sent to try a subscription out. */
export const TEST_EVENT = 'webhook.test';

/** The type of the message that hands a checkpoint over: no event of the chain, since no chain holds what signs it. */
export const CHECKPOINT_EVENT = 'audit.checkpoint';
/** The patterns that name it, as the database's `audit_action_matches` has it. */
const CHECKPOINT_PATTERNS: readonly string[] = ['*', 'audit.*', CHECKPOINT_EVENT];

const NAMES: readonly string[] = [...AUDIT_ACTIONS, CHECKPOINT_EVENT];

/** What `events` of a subscription may name: each audit action and `audit.checkpoint`, each family of them, and all. */
export const EVENT_PATTERNS: readonly string[] = [
  '*',
  ...new Set(NAMES.map((name) => `${name.split('.')[0]}.*`)),
  ...NAMES,
];

/** Whether a subscription with these patterns is sent the checkpoints. */
export function namesCheckpoints(patterns: readonly string[]): boolean {
  return patterns.some((pattern) => CHECKPOINT_PATTERNS.includes(pattern));
}

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
