const SEPARATOR = /[/:]/;
const WILDCARD = '*';

/**
 * What is wrong with a subject as an identity names it: text in which `*` may stand for one whole segment between `/` or
 * `:`, as in `repo:octo-org/octo-repo:ref:refs/heads/*`.
 *
 * @param hasClaims whether other claims narrow the identity down
 * @returns null where nothing is
 */
export function subjectPatternFault(pattern: string, hasClaims: boolean): string | null {
  const segments = pattern.split(SEPARATOR);
  if (segments.some((segment) => segment !== WILDCARD && segment.includes(WILDCARD))) {
    return 'must have * only as a whole segment between / or :';
  }
  const isFixed = segments.some((segment) => segment !== WILDCARD && segment !== '');
  return isFixed || hasClaims ? null : 'would match every subject of its length: name a segment, or claims';
}

/** Whether a subject is the one that a pattern means: letter by letter, and one segment that is not empty for each `*`. */
export function matchesSubject(pattern: string, subject: string): boolean {
  if (!pattern.includes(WILDCARD)) return subject === pattern;
  const wanted = parts(pattern);
  const given = parts(subject);
  return (
    wanted.length === given.length &&
    wanted.every((part, index) => part === given[index] || (part === WILDCARD && given[index] !== ''))
  );
}

/** Segments and separators, in turn. */
function parts(text: string): string[] {
  return text.split(/([/:])/);
}
