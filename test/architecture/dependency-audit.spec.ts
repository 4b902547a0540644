import { describe, expect, it } from '@jest/globals';
import { createRequire } from 'node:module';

const { verdictOf } = createRequire(import.meta.url)('../../scripts/dependency-audit.cjs') as {
  verdictOf: (output: string) => { code: number; text: string };
};

const report = (counts: object, vulnerabilities: object = {}) =>
  JSON.stringify({ auditReportVersion: 2, vulnerabilities, metadata: { vulnerabilities: counts } });

describe('the audit of dependencies', () => {
  it('fails where a package has a weakness of high or critical severity, and names it', () => {
    const { code, text } = verdictOf(
      report({ moderate: 1, high: 1, critical: 0 }, { left: { severity: 'high' }, right: { severity: 'moderate' } }),
    );
    expect([code, text]).toEqual([1, 'Audited: known weaknesses in left (high).']);
  });

  it('does not fail where there is none, or a slighter one', () => {
    const { code, text } = verdictOf(report({ moderate: 3, high: 0, critical: 0 }));
    expect([code, text]).toEqual([0, 'Audited: no known weakness of high or critical severity.']);
  });

  it.each([
    ['the registry does not answer', JSON.stringify({ message: '405 Method Not Allowed', statusCode: 405 })],
    ['npm says nothing', ''],
    ['npm says what is no report', 'null'],
  ])('says so where %s, and does not fail', (_, output) => {
    const { code, text } = verdictOf(output);
    expect(code).toBe(0);
    expect(text).toMatch(/^Not audited: /);
  });
});
