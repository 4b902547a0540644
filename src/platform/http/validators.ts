import { ValidateBy, ValidateIf, type ValidationOptions } from 'class-validator';
import { MAX_SCOPE_LENGTH, SCOPE_TOKEN } from '../kernel/scopes.js';

/** The most labels that an object may carry. */
const MAX_LABELS = 64;
const LABEL_KEY = /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/;
const MAX_LABEL_VALUE = 256;

/** RFC 3339 with an offset, or a date alone; PostgreSQL has no year 0. */
const INSTANT = /^(?!0000)(\d{4})-(\d\d)-(\d\d)(?:T\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?(?:Z|[+-]\d\d:\d\d))?$/;

const MAX_IDENTIFIER = 512;
/** A scheme and a part after it, of the characters of RFC 3986 §2 without `#`, percent signs only as encodings. */
const ABSOLUTE_URI = /^[A-Za-z][A-Za-z0-9+.-]*:(?:[A-Za-z0-9._~:/?[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+$/;

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

/** An absolute URI without a fragment (RFC 3986 §4.3, RFC 8707 §2) of at most 512 characters. */
export function IsResourceIdentifier(options?: ValidationOptions): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isResourceIdentifier',
      validator: {
        validate: (value) => typeof value === 'string' && isResourceIdentifier(value),
        defaultMessage: () => `must be an absolute URI without fragment of at most ${MAX_IDENTIFIER} characters`,
      },
    },
    options,
  );
}

/** ASCII only, as a URI is: an identifier has one Unicode form. Nobody's name and password are part of an audience. */
function isResourceIdentifier(value: string): boolean {
  if (value.length > MAX_IDENTIFIER || !ABSOLUTE_URI.test(value) || !URL.canParse(value)) return false;
  const { username, password } = new URL(value);
  return username === '' && password === '';
}

/** An instant of RFC 3339, or a date, which is its first instant in UTC. A time of unknown offset is refused. */
export function IsInstant(options?: ValidationOptions): PropertyDecorator {
  return ValidateBy(
    {
      name: 'isInstant',
      validator: {
        validate: isInstant,
        defaultMessage: () => 'must be an instant such as 2026-11-22T10:00:00Z',
      },
    },
    options,
  );
}

function isInstant(value: unknown): boolean {
  const match = typeof value === 'string' ? INSTANT.exec(value) : null;
  if (match === null) return false;
  const [text, year, month, day] = match;
  // `Date.parse` takes February 30.
  const date = new Date(Date.UTC(Number(year), Number(month) - 1, Number(day)));
  if (date.getUTCMonth() + 1 !== Number(month)) return false;
  // An offset may carry it beyond the years that RFC 3339 knows.
  const utcYear = new Date(text).getUTCFullYear();
  return utcYear >= 1 && utcYear <= 9999;
}

function isLabels(value: unknown): boolean {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const entries = Object.entries(value);
  return (
    entries.length <= MAX_LABELS &&
    entries.every(([key, text]) => LABEL_KEY.test(key) && typeof text === 'string' && text.length <= MAX_LABEL_VALUE)
  );
}
