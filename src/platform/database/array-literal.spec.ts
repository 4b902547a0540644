import { describe, expect, it } from '@jest/globals';
import { plainItems } from './array-literal.js';

describe('plainItems', () => {
  it.each([
    ['{}', []],
    ['{a}', ['a']],
    ['{agents:read,tokens:read}', ['agents:read', 'tokens:read']],
    ['{a,NULL,b}', ['a', null, 'b']],
    ['{NULLABLE,null}', ['NULLABLE', 'null']],
  ])('takes %s apart', (literal, items) => {
    expect(plainItems(literal)).toEqual(items);
  });

  it.each(['{"a,b"}', '{"NULL"}', '{a,"x\\"y"}', '{{a},{b}}', '[0:1]={a,b}', '{"{"}'])(
    'leaves %s to the driver',
    (literal) => {
      expect(plainItems(literal)).toBeNull();
    },
  );
});
