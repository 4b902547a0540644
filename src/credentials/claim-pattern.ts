import { jsonPointer } from '../platform/http/json-pointer.js';
import type { FieldFault } from '../platform/kernel/problem.js';

/** What a claim must be: a value, or an object whose members the claim's must have. */
export type ClaimValue = string | number | boolean | ClaimPattern;

/** What claims of an assertion must be, by name; others may be anything. */
export interface ClaimPattern {
  readonly [name: string]: ClaimValue;
}

/** Values that one identity may ask for, over all levels. */
const MAX_VALUES = 50;
const MAX_DEPTH = 4;
const MAX_LENGTH = 512;

/** What is wrong with a pattern of claims, each fault named by its JSON Pointer below `/claims`. */
export function claimPatternFaults(pattern: Readonly<Record<string, unknown>>): FieldFault[] {
  const faults: FieldFault[] = [];
  const values = inspect(pattern, ['claims'], faults);
  if (values > MAX_VALUES) faults.push({ pointer: '/claims', detail: `must not have more than ${MAX_VALUES} values` });
  return faults;
}

/**
 * Whether claims are what a pattern asks for. A value is matched by the same value, and by a list that has it; an object
 * by an object whose members match.
 */
export function matchesClaims(pattern: ClaimPattern, claims: Readonly<Record<string, unknown>>): boolean {
  return Object.entries(pattern).every(
    ([name, wanted]) => Object.hasOwn(claims, name) && matchesValue(wanted, claims[name]),
  );
}

function matchesValue(wanted: ClaimValue, given: unknown): boolean {
  if (typeof wanted !== 'object') return Array.isArray(given) ? given.includes(wanted) : given === wanted;
  return typeof given === 'object' && given !== null && !Array.isArray(given)
    ? matchesClaims(wanted, given as Record<string, unknown>)
    : false;
}

function inspect(pattern: object, path: readonly string[], faults: FieldFault[]): number {
  let values = 0;
  for (const [name, value] of Object.entries(pattern) as [string, unknown][]) {
    const here = [...path, name];
    if (typeof value === 'object' && value !== null && !Array.isArray(value) && here.length <= MAX_DEPTH) {
      values += inspect(value, here, faults);
      continue;
    }
    values += 1;
    if (!isPlain(value)) {
      const detail = `must be text of 1 to ${MAX_LENGTH} characters, a whole number, true, false, or an object of these`;
      faults.push({ pointer: jsonPointer(here), detail });
    }
  }
  return values;
}

function isPlain(value: unknown): boolean {
  if (typeof value === 'string') return value !== '' && value.length <= MAX_LENGTH;
  return typeof value === 'boolean' || Number.isSafeInteger(value);
}
