import { describe, expect, it } from '@jest/globals';
import { terminalText } from './terminal-text.js';

describe('a text for the terminal', () => {
  it.each([
    ['escape', '\u{1B}'],
    ['tab', '\t'],
    ['line feed', '\n'],
    ['delete', '\u{7F}'],
    ['C1 introducer', '\u{9B}'],
    ['line separator', '\u{2028}'],
    ['paragraph separator', '\u{2029}'],
    ['right-to-left override', '\u{202E}'],
    ['isolate', '\u{2066}'],
    ['Arabic letter mark', '\u{61C}'],
    ['lone surrogate', '\uD800'],
  ])('shows that there was a %s, and does not print it', (_name, character) => {
    expect(terminalText(`a${character}b`)).toBe('a\u{FFFD}b');
  });

  it('leaves letters of every script as they are', () => {
    expect(terminalText('agent.créé – агент 代理 👍')).toBe('agent.créé – агент 代理 👍');
  });
});
