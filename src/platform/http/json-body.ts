import { isUtf8 } from 'node:buffer';
import { problems, type FieldFault } from '../kernel/problem.js';
import { jsonPointer } from './json-pointer.js';

/** How many objects and arrays may stand inside each other. */
export const MAX_JSON_DEPTH = 32;

/** How many items a list may have: more than any member takes, and few enough to be looked at one by one. */
export const MAX_JSON_ITEMS = 256;

const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Reads a JSON body (RFC 8259) more strictly than `JSON.parse`: what no honest client sends and what PostgreSQL or
 * an object prototype would trip over is refused here, once.
 *
 * @param body the bytes of the body
 * @returns the value; `undefined` for an empty body
 * @throws Problem `validation_failed` that names the fault by its JSON Pointer: invalid UTF-8, malformed JSON, the
 *   names `__proto__` and `constructor.prototype`, NUL characters, lone surrogates, numbers beyond the range of a
 *   double, more than 32 levels, a list of more than 256 items
 */
export function parseJsonBody(body: Buffer): unknown {
  if (body.length === 0) return undefined;
  if (!isUtf8(body)) throw refusal({ pointer: '', detail: 'The body is not valid UTF-8.' });
  const text = body.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refusal({ pointer: '', detail: 'The body is not valid JSON.' });
  }
  // In valid UTF-8 and valid JSON, NUL and lone surrogates can only stand as \u escapes.
  const fault = new BodyInspection(text.includes('\\u')).faultOf(value);
  if (fault !== undefined) throw refusal(fault);
  return value;
}

class BodyInspection {
  private readonly path: (string | number)[] = [];

  constructor(private readonly hasUnicodeEscapes: boolean) {}

  faultOf(value: unknown): FieldFault | undefined {
    if (typeof value === 'string') return this.textFault(value, 'The text');
    if (typeof value === 'number') return Number.isFinite(value) ? undefined : this.fault('The number is too large.');
    if (typeof value !== 'object' || value === null) return undefined;
    if (this.path.length >= MAX_JSON_DEPTH) {
      return { pointer: '', detail: `The body is nested more than ${MAX_JSON_DEPTH} levels deep.` };
    }
    return Array.isArray(value) ? this.arrayFault(value) : this.objectFault(value);
  }

  private arrayFault(items: readonly unknown[]): FieldFault | undefined {
    // Before the items are turned into DTOs and checked one by one, which costs a thousand times as much as reading them.
    if (items.length > MAX_JSON_ITEMS) return this.fault(`The list has more than ${MAX_JSON_ITEMS} items.`);
    for (let index = 0; index < items.length; index++) {
      const fault = this.memberFault(index, items[index]);
      if (fault !== undefined) return fault;
    }
    return undefined;
  }

  private objectFault(object: object): FieldFault | undefined {
    for (const [name, member] of Object.entries(object)) {
      if (name === '__proto__' || (name === 'constructor' && hasPrototype(member))) {
        return this.fault(`The member name ${name} is not allowed.`);
      }
      const fault = this.textFault(name, 'A member name') ?? this.memberFault(name, member);
      if (fault !== undefined) return fault;
    }
    return undefined;
  }

  private memberFault(step: string | number, member: unknown): FieldFault | undefined {
    this.path.push(step);
    const fault = this.faultOf(member);
    this.path.pop();
    return fault;
  }

  private textFault(text: string, what: string): FieldFault | undefined {
    if (!this.hasUnicodeEscapes) return undefined;
    if (text.includes('\0')) return this.fault(`${what} holds a NUL character.`);
    if (LONE_SURROGATE.test(text)) return this.fault(`${what} holds a lone surrogate.`);
    return undefined;
  }

  private fault(detail: string): FieldFault {
    return { pointer: jsonPointer(this.path), detail };
  }
}

function hasPrototype(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, 'prototype');
}

function refusal(fault: FieldFault): Error {
  return problems.validationFailed.withErrors(fault);
}
