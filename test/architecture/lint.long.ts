import { expect, it } from '@jest/globals';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';

const ROOT = join(import.meta.dirname, '../..');
/** In whose place the text is looked at: a file of the product, with all rules that those have. */
const PLACE = 'src/agents/agents.repository.ts';

interface Finding {
  readonly line: number;
  readonly ruleId: string | null;
}

/** Weaknesses as somebody could write them, each on one line, and the rule that is to find it. */
const PLANTED: readonly (readonly [string, string])[] = [
  ['await manager.query(`SELECT 1 FROM agents WHERE name = ${text}`);', 'no-restricted-syntax'],
  ["await manager.query('SELECT 1 FROM agents WHERE name = ' + text);", 'no-restricted-syntax'],
  ['await manager.query(`${text} LIMIT 1`);', 'no-restricted-syntax'],
  ["const later = { text: `UPDATE agents SET name = '${text}'` };", 'no-restricted-syntax'],
  ["const sum = 'DELETE FROM agents WHERE name = ' + text;", 'no-restricted-syntax'],
  ['const slow = /^(?:a+)+$/.test(text);', 'regexp/no-super-linear-backtracking'],
  ['const slowToo = text.replace(/x+$/, "");', 'regexp/no-super-linear-move'],
  ['const pattern = new RegExp(text);', 'security/detect-non-literal-regexp'],
  ['eval(text);', 'no-eval'],
  ['const made = new Function(text);', 'no-new-func'],
  ['setTimeout("work()", 1);', '@typescript-eslint/no-implied-eval'],
  ['exec(`ls ${text}`);', 'security/detect-child-process'],
  ['const chance = Math.random();', 'no-restricted-properties'],
  ["const turned = 'a\u202eb';", 'security/detect-bidi-characters'],
];

/** What looks alike and is right. */
const RIGHT: readonly string[] = [
  'await manager.query(`SELECT ${COLUMNS} FROM agents WHERE name = $1`, [text]);',
  "await manager.query(`SELECT 1 FROM agents FOR UPDATE ${isPatient ? '' : 'NOWAIT'}`);",
  'const told = `DELETE /api/v1/agents/${text}`;',
  'const fast = /^[a-z]+$/.test(text);',
];

/** What the project's rules say of a text in the place of a file of the product. */
async function lint(text: string): Promise<readonly Finding[]> {
  const args = ['node_modules/eslint/bin/eslint.js', '--stdin', '--stdin-filename', PLACE, '--format', 'json'];
  const eslint = spawn(process.execPath, args, { cwd: ROOT, stdio: ['pipe', 'pipe', 'inherit'] });
  eslint.stdin.end(text);
  const [result] = (await json(eslint.stdout)) as { messages: Finding[] }[];
  return result?.messages ?? [];
}

it('the lint finds weaknesses that are planted, and takes what only looks like them', async () => {
  const head = "import { exec } from 'node:child_process';";
  const lines = [head, ...PLANTED.map(([line]) => line), ...RIGHT];
  const found = await lint(lines.join('\n'));
  const rulesOf = (line: number): (string | null)[] =>
    found.filter((each) => each.line === line).map((each) => each.ruleId);
  const missed = PLANTED.filter(([, rule], index) => !rulesOf(index + 2).includes(rule));
  expect(missed).toEqual([]);
  const rules = new Set(PLANTED.map(([, rule]) => rule));
  const wrong = RIGHT.filter((_, index) => rulesOf(index + 2 + PLANTED.length).some((rule) => rules.has(rule ?? '')));
  expect(wrong).toEqual([]);
}, 240_000);
