import { ValidateBy, ValidateIf, type ValidationOptions } from 'class-validator';
import { MAX_SCOPE_LENGTH, SCOPE_TOKEN } from '../kernel/scopes.js';

/** The most labels that an object may carry. */
const MAX_LABELS = 64;
const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
const MAX_LABEL_VALUE = 256;

/** The member may be left out, but not be null: `@IsOptional()` accepts both. */
export function MayBeOmitted(): PropertyDecorator {
  return ValidateIf((_object: object, value: unknown) => value !== undefined);
}

/** A map from label keys to strings. */
export function IsLabels(options?: ValidationOptions): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isLabels',
      validator: {
        validate: isLabels,
        defaultMessage: () =>
          `must be an object of at most ${MAX_LABELS} strings of at most ${MAX_LABEL_VALUE} characters, ` +
          'whose keys have at most 63 of A-Z a-z 0-9 . _ / -',
      },
    },
    options,
  );
}

/** A scope-token of RFC 6749 §3.3. */
export function IsScopeToken(options?: ValidationOptions): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isScopeToken',
      validator: {
        validate: (value) => typeof value === 'string' && value.length <= MAX_SCOPE_LENGTH && SCOPE_TOKEN.test(value),
        defaultMessage: () =>
          `must be printable ASCII of at most ${MAX_SCOPE_LENGTH} characters without space, double quote and backslash`,
      },
    },
    options,
  );
}

function isLabels(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  return (
    entries.length <= MAX_LABELS &&
    entries.every(([key, text]) => LABEL_KEY.test(key) && typeof text === 'string' && text.length <= MAX_LABEL_VALUE)
  );
}
