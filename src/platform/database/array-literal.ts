/** Ends each of the joined texts: no JSON text, no header field and no name of ours holds a control character. */
const END = '\u001e';
/** Stands for null among them. */
const NULL_TEXT = '\u001f';

/*
 * Parameters that stand for a column of a batch, as text. Rendered here because the driver's own arrays quote every
 * item, which for the rendered events of a batch costs more than all else that is done to send them.
 */

/**
 * The literal of an array whose items need no quotes: UUIDs, whole numbers, instants in ISO 8601.
 *
 * @param items never anything that a caller chose freely
 */
export function plainArray(items: readonly (string | number)[]): string {
  return `{${items.join(',')}}`;
}

/** What has to be escaped within quotes. */
const QUOTED = /["\\]/g;

/** The literal of an array of any texts; the driver's own takes several times as long. */
export function textArray(items: readonly string[]): string {
  let literal = '{';
  for (const item of items) {
    literal += literal === '{' ? '"' : ',"';
    literal += item.includes('"') || item.includes('\\') ? item.replace(QUOTED, '\\$&') : item;
    literal += '"';
  }
  return `${literal}}`;
}

/**
 * Texts one after the other, for `string_to_array(…, U+001E, U+001F)`, which gives them and one empty text more. Whoever
 * takes them apart compares their number with that of the batch: a text with a control character in it would shift the
 * others.
 */
export function joinedTexts(texts: readonly (string | null)[]): string {
  let joined = '';
  for (const text of texts) joined += (text ?? NULL_TEXT) + END;
  return joined;
}

/**
 * The items of an array as PostgreSQL renders it, where it has one dimension and quotes no item.
 *
 * @param literal for example `{agents:read,NULL}`
 * @returns null for any other array: the driver then takes it apart letter by letter
 */
export function plainItems(literal: string): (string | null)[] | null {
  if (literal === '{}') return [];
  if (literal.includes('"') || literal.indexOf('{', 1) !== -1) return null;
  const items = literal.slice(1, -1).split(',');
  return literal.includes('NULL') ? items.map((item) => (item === 'NULL' ? null : item)) : items;
}
