import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import {
  BUILT_IN_SCOPES,
  BUILT_IN_SCOPE_NAMES,
  isBuiltInScope,
  MAX_SCOPE_LENGTH,
  OPERATOR_SCOPE,
  SCOPE_TOKEN,
} from './scopes.js';

describe('the built-in scopes', () => {
  it('are those of the contract, each with a description', () => {
    expect([...BUILT_IN_SCOPE_NAMES].sort()).toEqual(
      [
        'agents:read',
        'agents:write',
        'tokens:read',
        'audit:read',
        'webhooks:read',
        'webhooks:write',
        'admin:orgs',
        'resources:read',
        'resources:write',
      ].sort(),
    );
    for (const description of Object.values(BUILT_IN_SCOPES)) expect(description).toMatch(/^[A-Z].{8,}[^.]$/);
    expect(BUILT_IN_SCOPE_NAMES).toContain(OPERATOR_SCOPE);
  });

  it('are scope-tokens of RFC 6749', () => {
    for (const name of BUILT_IN_SCOPE_NAMES) {
      expect(name).toMatch(SCOPE_TOKEN);
      expect(name.length).toBeLessThanOrEqual(MAX_SCOPE_LENGTH);
    }
  });

  it('are told from all others, letter by letter', () => {
    for (const name of BUILT_IN_SCOPE_NAMES) {
      expect(isBuiltInScope(name)).toBe(true);
      for (const other of [name.toUpperCase(), `${name} `, ` ${name}`, name.slice(1), `${name}s`]) {
        expect(isBuiltInScope(other)).toBe(false);
      }
    }
  });

  it.each(['constructor', '__proto__', 'toString', 'hasOwnProperty', '', 'admin:*'])('do not include %j', (name) => {
    expect(isBuiltInScope(name)).toBe(false);
  });
});

describe('a scope-token', () => {
  it('is what RFC 6749 §3.3 says, character by character', () => {
    for (let code = 0; code < 0x180; code += 1) {
      const allowed = code === 0x21 || (code >= 0x23 && code <= 0x5b) || (code >= 0x5d && code <= 0x7e);
      expect([code, SCOPE_TOKEN.test(String.fromCharCode(code))]).toEqual([code, allowed]);
    }
  });

  it('has no character of another kind anywhere', () => {
    const good = fc.string({ unit: fc.constantFrom(...'!#[]~azAZ09:/.-_'), minLength: 1, maxLength: 20 });
    const bad = fc.constantFrom(' ', '"', '\\', '\n', '\t', '\0', '\x7f', 'é', '\u2028');
    fc.assert(
      fc.property(good, bad, good, (before, character, after) => {
        expect(SCOPE_TOKEN.test(before + after)).toBe(true);
        expect(SCOPE_TOKEN.test(before + character + after)).toBe(false);
        expect(SCOPE_TOKEN.test(before + character)).toBe(false);
        expect(SCOPE_TOKEN.test(character + after)).toBe(false);
      }),
    );
  });
});
