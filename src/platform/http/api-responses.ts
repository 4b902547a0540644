import { applyDecorators } from '@nestjs/common';
import { ApiResponse } from '@nestjs/swagger';
import { oauthErrors } from '../kernel/oauth-error.js';
import { Problem, PROBLEM_KINDS, problems, type ProblemCode } from '../kernel/problem.js';

/** A status that the management API answers errors with. */
export type ProblemStatus = (typeof PROBLEM_KINDS)[ProblemCode]['status'];

/** The name of an error of the OAuth endpoints. */
export type OAuthErrorName = keyof typeof oauthErrors;

interface Example {
  readonly summary: string;
  readonly value: unknown;
}

/** The schemas that the error responses refer to: RFC 9457 and RFC 6749 §5.2. */
export const ERROR_SCHEMAS = {
  Problem: {
    type: 'object',
    description: 'An error of the management API, RFC 9457.',
    required: ['type', 'title', 'status', 'code'],
    properties: {
      type: { type: 'string', format: 'uri', example: 'urn:sentryagent:problem:not_found' },
      title: { type: 'string' },
      status: { type: 'integer' },
      detail: { type: 'string' },
      code: { type: 'string', enum: Object.keys(PROBLEM_KINDS) },
      errors: {
        type: 'array',
        items: {
          type: 'object',
          required: ['pointer', 'detail'],
          properties: {
            pointer: { type: 'string', description: 'A JSON Pointer (RFC 6901) to the member or parameter.' },
            detail: { type: 'string' },
          },
        },
      },
    },
  },
  OAuthError: {
    type: 'object',
    description: 'An error of an OAuth endpoint, RFC 6749 section 5.2.',
    required: ['error'],
    properties: { error: { type: 'string' }, error_description: { type: 'string' } },
  },
};

const validationExample = problems.validationFailed.withErrors({
  pointer: '/name',
  detail: 'name must be longer than or equal to 1 characters',
});

/** A response of the API document: the errors of one status. */
export interface ErrorResponse {
  readonly description: string;
  readonly content: Readonly<Record<string, { schema: { $ref: string }; examples: Record<string, Example> }>>;
}

/**
 * Documents the errors of a management route.
 *
 * @param statuses the statuses that the route answers with beside success; each brings the examples of its codes
 */
export function ApiProblemResponses(...statuses: ProblemStatus[]): MethodDecorator & ClassDecorator {
  // Whoever is authenticated has a rate.
  const limited: ProblemStatus[] = statuses.includes(401) ? [429] : [];
  return responseDecorators(problemResponses(...statuses, ...limited));
}

/**
 * Documents the errors of an OAuth route.
 *
 * @param names names of `oauthErrors`; those of one status become the examples of one response
 */
export function ApiOAuthErrorResponses(...names: OAuthErrorName[]): MethodDecorator & ClassDecorator {
  return responseDecorators(oauthResponses(...names));
}

/** The responses of the management API with these statuses, by status. */
export function problemResponses(...statuses: ProblemStatus[]): Record<string, ErrorResponse> {
  return Object.fromEntries(statuses.map((status) => [String(status), problemResponse(status)]));
}

/** The responses of an OAuth endpoint with these errors, by status. */
export function oauthResponses(...names: OAuthErrorName[]): Record<string, ErrorResponse> {
  const byStatus = new Map<number, Record<string, Example>>();
  for (const name of names) {
    const error = oauthErrors[name];
    const examples = byStatus.get(error.status) ?? {};
    examples[name] = { summary: error.error, value: error.toBody() };
    byStatus.set(error.status, examples);
  }
  return Object.fromEntries(
    [...byStatus].map(([status, examples]) => {
      const description = Object.values(examples).map(({ summary }) => summary);
      const content = { 'application/json': { schema: { $ref: '#/components/schemas/OAuthError' }, examples } };
      return [String(status), { description: description.join(', '), content }];
    }),
  );
}

function responseDecorators(responses: Readonly<Record<string, ErrorResponse>>): MethodDecorator & ClassDecorator {
  const decorators = Object.entries(responses).map(([status, response]) =>
    ApiResponse({ status: Number(status), ...response }),
  );
  return applyDecorators(...decorators);
}

function problemResponse(status: ProblemStatus): ErrorResponse {
  const codes = (Object.keys(PROBLEM_KINDS) as ProblemCode[]).filter((code) => PROBLEM_KINDS[code].status === status);
  const examples: Record<string, Example> = {};
  for (const code of codes) examples[code] = { summary: PROBLEM_KINDS[code].title, value: exampleOf(code).toBody() };
  return {
    description: codes.map((code) => PROBLEM_KINDS[code].title).join('; '),
    content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' }, examples } },
  };
}

function exampleOf(code: ProblemCode): Problem {
  if (code === 'validation_failed') return validationExample;
  return Object.values(problems).find((problem) => problem.code === code) ?? new Problem(code);
}
