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
