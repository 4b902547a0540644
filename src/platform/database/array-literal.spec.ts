import { describe, expect, it } from '@jest/globals';
import { types } from 'pg';
import { plainItems, textArray } from './array-literal.js';

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

describe('textArray', () => {
  it.each([
    [[], '{}'],
    [[''], '{""}'],
    [['a', 'NULL', 'b c'], '{"a","NULL","b c"}'],
    [['"', '\\', '","', '\\"{},\n\u001e'], '{"\\"","\\\\","\\",\\"","\\\\\\"{},\n\u001e"}'],
  ])('writes %j so that it is read as it was', (items, literal) => {
    expect(textArray(items)).toBe(literal);
    const parse = types.getTypeParser(1009 as never, 'text') as (literal: string) => string[];
    expect(parse(literal)).toEqual(items);
  });
});
