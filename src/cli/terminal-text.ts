/**
 * A text from elsewhere that moves no cursor, adds no line or column, and turns nothing around where it is printed:
 * control and formatting characters, line separators and lone surrogates are replaced.
 */
export function terminalText(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu, '\u{FFFD}');
}
