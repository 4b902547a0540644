import { describe, expect, it } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import ts from 'typescript';
import { BUILT_IN_SCOPE_NAMES } from '../../src/platform/kernel/scopes.js';

const ROOT = join(import.meta.dirname, '../..');
/** Names that say nothing of what a file holds. */
const FORBIDDEN_NAMES = /(^|[.-])(utils?|helpers?|common|managers?|misc|shared|base|index)([.-]|$)/i;
const MAX_LINES = 350;

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly tree: ts.SourceFile;
}

function filesBelow(folder: string): SourceFile[] {
  return readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.includes('node_modules'))
    .map((name) => {
      const path = join(folder, name);
      const text = readFileSync(join(ROOT, path), 'utf8');
      return { path: relative('.', path), text, tree: ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true) };
    });
}

const everything = [...filesBelow('src'), ...filesBelow('test')];
const product = everything.filter(({ path }) => path.startsWith('src/') && !path.endsWith('.spec.ts'));

/** Looks at every node of the files and gathers where something is wrong. */
function findAll(files: readonly SourceFile[], isFault: (node: ts.Node, file: SourceFile) => boolean): string[] {
  const found: string[] = [];
  for (const file of files) {
    const visit = (node: ts.Node): void => {
      if (isFault(node, file)) {
        const { line } = file.tree.getLineAndCharacterOfPosition(node.getStart(file.tree));
        found.push(`${file.path}:${line + 1}`);
      }
      ts.forEachChild(node, visit);
    };
    visit(file.tree);
  }
  return found;
}

const isExported = (node: ts.Node): boolean =>
  ts.canHaveModifiers(node) && (ts.getModifiers(node) ?? []).some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword);

/** The text of a string or of the fixed parts of a template. */
function textOf(node: ts.Node): string | undefined {
  const isText =
    ts.isStringLiteralLike(node) || ts.isTemplateHead(node) || ts.isTemplateMiddle(node) || ts.isTemplateTail(node);
  return isText ? node.text : undefined;
}

function isInside(node: ts.Node, isPlace: (ancestor: ts.Node) => boolean): boolean {
  for (let at: ts.Node | undefined = node; at !== undefined; at = at.parent) if (isPlace(at)) return true;
  return false;
}

describe('the source', () => {
  it('is found', () => {
    expect(product.length).toBeGreaterThan(80);
  });

  it('has no any', () => {
    expect(findAll(everything, ({ kind }) => kind === ts.SyntaxKind.AnyKeyword)).toEqual([]);
  });

  it('has no suppressed type errors', () => {
    const suppressed = everything.filter(
      ({ path, text }) =>
        path !== relative(ROOT, import.meta.filename) && /@ts-(ignore|nocheck|expect-error)/.test(text),
    );
    expect(suppressed.map(({ path }) => path)).toEqual([]);
  });

  it('has no forwardRef', () => {
    expect(findAll(everything, (node) => ts.isIdentifier(node) && node.text === 'forwardRef')).toEqual([]);
  });

  it('has no barrel files', () => {
    const barrels = product.filter(({ path, tree }) => {
      const onlyPassesOn = tree.statements.length > 0 && tree.statements.every((each) => ts.isExportDeclaration(each));
      return basename(path) === 'index.ts' || onlyPassesOn;
    });
    expect(barrels.map(({ path }) => path)).toEqual([]);
    const wholesale = findAll(product, (node) => ts.isExportDeclaration(node) && node.exportClause === undefined);
    expect(wholesale).toEqual([]);
  });

  it('has no file or folder whose name says nothing', () => {
    const vague = everything.filter(({ path }) => path.split('/').some((part) => FORBIDDEN_NAMES.test(part)));
    expect(vague.map(({ path }) => path)).toEqual([]);
  });

  it('has no file of more than 350 lines', () => {
    const long = everything.filter(
      ({ path, text }) => path.startsWith('src/') && text.trimEnd().split('\n').length > MAX_LINES,
    );
    expect(long.map(({ path }) => path)).toEqual([]);
  });

  it('tells of every exported class, function, interface and type what it is', () => {
    const told = findAll(product, (node) => {
      const isDeclaration =
        ts.isClassDeclaration(node) || ts.isFunctionDeclaration(node) || ts.isInterfaceDeclaration(node);
      return isDeclaration && isExported(node) && !ts.getJSDocCommentsAndTags(node).some(ts.isJSDoc);
    });
    expect(told).toEqual([]);
  });

  it('names scopes in scopes.ts and in decorators only', () => {
    const scope = new RegExp(`(?<![\\w:])(${BUILT_IN_SCOPE_NAMES.join('|')})(?![\\w:])`);
    const found = findAll(product, (node, { path }) => {
      const text = textOf(node);
      if (text === undefined || !scope.test(text)) return false;
      // A migration that has landed is never edited, whatever becomes of a name.
      if (path === 'src/platform/kernel/scopes.ts' || path.includes('/migrations/')) return false;
      return !isInside(node, ts.isDecorator);
    });
    expect(found).toEqual([]);
  });

  it('asks nobody but the Clock for the time', () => {
    const isDate = (node: ts.Node): boolean => ts.isIdentifier(node) && node.text === 'Date';
    const found = findAll(product, (node, { path }) => {
      if (path === 'src/platform/kernel/clock.ts') return false;
      if (ts.isNewExpression(node)) return isDate(node.expression) && (node.arguments ?? []).length === 0;
      if (!ts.isCallExpression(node)) return false;
      const { expression } = node;
      const isNow =
        ts.isPropertyAccessExpression(expression) && isDate(expression.expression) && expression.name.text === 'now';
      return isDate(expression) || isNow;
    });
    expect(found).toEqual([]);
  });

  it('takes chance from node:crypto only', () => {
    const found = findAll(product, (node) => ts.isPropertyAccessExpression(node) && node.getText() === 'Math.random');
    expect(found).toEqual([]);
  });

  it('reads the environment in one place, once', () => {
    const found = findAll(product, (node) => ts.isPropertyAccessExpression(node) && node.getText() === 'process.env');
    // The embedded server's processes inherit a little of ours.
    const read = found.filter((place) => !place.startsWith('src/platform/database/embedded/server-account.ts:'));
    expect(read.map((place) => place.replace(/:\d+$/, ''))).toEqual(['src/start-up.ts']);
  });

  it('exports by name', () => {
    expect(findAll(product, ts.isExportAssignment)).toEqual([]);
  });
});

describe('the tests', () => {
  const specs = everything.filter(({ path }) => path.endsWith('.spec.ts') || path.endsWith('.long.ts'));

  it('skip nothing and single nothing out', () => {
    const found = findAll(specs, (node) => {
      if (!ts.isCallExpression(node)) return false;
      const called = node.expression.getText();
      return /^(x(it|describe|test)|f(it|describe)|(it|test|describe)\.(skip|only|todo|failing)\b.*)$/.test(called);
    });
    expect(found).toEqual([]);
  });
});
