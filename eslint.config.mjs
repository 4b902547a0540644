import { defineConfig } from 'eslint/config';
import regexp from 'eslint-plugin-regexp';
import security from 'eslint-plugin-security';
import tseslint from 'typescript-eslint';

const NO_CHANCE = { object: 'Math', property: 'random', message: 'Use node:crypto.' };
const NO_CLOCK = { object: 'Date', property: 'now', message: 'Ask the Clock (platform/kernel/clock.ts).' };

const SQL = String.raw`/^\s*(SELECT|INSERT\s+INTO|UPDATE|DELETE\s+FROM|WITH|CREATE|DROP|ALTER|GRANT|REVOKE|TRUNCATE|COPY|LOCK)\s/`;
const BEGINS_AS_SQL = `:has(> TemplateElement:first-child[value.raw=${SQL}])`;
/** A constant, one of two texts, or what the driver has quoted: nothing else may stand in a statement. */
const NO_PART_OF_SQL = `:not(${[
  'Identifier[name=/^[A-Z][A-Z0-9_]*$/]',
  "ConditionalExpression[consequent.type='Literal'][alternate.type='Literal']",
  'CallExpression[callee.property.name=/^escape(Identifier|Literal)$/]',
].join(', ')})`;
const RESTRICTED_SYNTAX = [
  { selector: 'ExportDefaultDeclaration', message: 'Export by name.' },
  {
    selector: "NewExpression[callee.name='Date'][arguments.length=0]",
    message: 'Ask the Clock (platform/kernel/clock.ts).',
  },
  { selector: "CallExpression[callee.name='Date']", message: 'Ask the Clock (platform/kernel/clock.ts).' },
];
/** SQL that is built of texts, by a template or by `+`, wherever it is made and whatever it is given to. */
const NO_BUILT_SQL = [
  `TemplateLiteral${BEGINS_AS_SQL} > ${NO_PART_OF_SQL}.expressions`,
  `CallExpression[callee.property.name='query'] > TemplateLiteral.arguments:first-child:not(${BEGINS_AS_SQL}) > ${NO_PART_OF_SQL}.expressions`,
  "CallExpression[callee.property.name='query'] > BinaryExpression.arguments:first-child",
  `BinaryExpression[operator='+'] > Literal.left[value=${SQL}]`,
  `BinaryExpression[operator='+'] > TemplateLiteral.left${BEGINS_AS_SQL}`,
].map((selector) => ({
  selector,
  message: 'Values are parameters ($1), never part of a statement; constants are named in CAPITALS.',
}));

export default defineConfig(
  { ignores: ['node_modules/', 'dist/', 'data/', 'coverage/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    plugins: { regexp, security },
    rules: {
      eqeqeq: 'error',
      'no-eval': 'error',
      'no-implied-eval': 'error',
      'no-new-func': 'error',
      'no-script-url': 'error',
      'security/detect-bidi-characters': 'error',
      'security/detect-invisible-characters': 'error',
    },
  },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/return-await': ['error', 'error-handling-correctness-only'],
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-deprecated': 'error',
      '@typescript-eslint/prefer-promise-reject-errors': 'error',
      '@typescript-eslint/require-array-sort-compare': 'error',
      '@typescript-eslint/no-unnecessary-boolean-literal-compare': 'error',
      '@typescript-eslint/no-import-type-side-effects': 'off',
      // Leaves files with decorators alone, where an import may be needed for the metadata.
      '@typescript-eslint/consistent-type-imports': [
        'error',
        { fixStyle: 'inline-type-imports', disallowTypeAnnotations: false },
      ],
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', varsIgnorePattern: '^_', ignoreRestSiblings: true },
      ],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      // An async method may implement an interface without awaiting anything.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    // What runs in production, and what starts it.
    files: ['src/**/*.ts', 'scripts/**', 'docker/**', 'ormconfig.ts'],
    ignores: ['**/*.spec.ts'],
    rules: {
      // Left out: detect-object-injection, detect-non-literal-fs-filename and detect-possible-timing-attacks, which take
      // every index, every file and every `token === null` for an attack; detect-unsafe-regex, which guesses what the
      // rules of eslint-plugin-regexp know.
      'security/detect-eval-with-expression': 'error',
      'security/detect-child-process': 'error',
      'security/detect-non-literal-regexp': 'error',
      'security/detect-pseudoRandomBytes': 'error',
      'security/detect-new-buffer': 'error',
      'security/detect-buffer-noassert': 'error',
      'regexp/no-super-linear-backtracking': ['error', { report: 'potential' }],
      'regexp/no-super-linear-move': ['error', { report: 'potential' }],
      'regexp/no-misleading-unicode-character': 'error',
      'regexp/no-obscure-range': 'error',
      'regexp/no-dupe-disjunctions': 'error',
      'regexp/no-contradiction-with-assertion': 'error',
    },
  },
  {
    files: ['src/**/*.ts'],
    rules: {
      'no-restricted-syntax': ['error', ...RESTRICTED_SYNTAX, ...NO_BUILT_SQL],
      'no-restricted-properties': ['error', NO_CHANCE, NO_CLOCK],
    },
  },
  {
    // Their statements name tables, columns and roles from lists in the code, which no parameter can.
    files: [
      'src/platform/backup/*.ts',
      'src/platform/database/embedded/provisioning.ts',
      'src/platform/database/migrations/*.ts',
      'src/platform/database/resealing.ts',
      'src/platform/database/serving-role.ts',
      'src/platform/database/token-cut.ts',
      'src/**/*.spec.ts',
    ],
    rules: { 'no-restricted-syntax': ['error', ...RESTRICTED_SYNTAX] },
  },
  {
    files: ['src/platform/kernel/clock.ts'],
    rules: { 'no-restricted-properties': ['error', NO_CHANCE], 'no-restricted-syntax': 'off' },
  },
  {
    // Expectations and parsed answers of unknown shape.
    files: ['**/*.spec.ts', 'test/**/*.ts'],
    rules: {
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
    },
  },
);
