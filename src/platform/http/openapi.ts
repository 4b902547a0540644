import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { serveApiDocsPage } from './api-docs-page.js';
import { ERROR_SCHEMAS, oauthResponses, problemResponses, type ErrorResponse } from './api-responses.js';
import { isOAuthPath } from './oauth-path.js';

/** The names of the security schemes, for `@ApiSecurity`. */
export const SECURITY_SCHEMES = { bearer: 'bearer', clientBasic: 'clientBasic' } as const;

/** What the API document says of the installation. */
export interface ApiDescription {
  /** The issuer's URL, which is the server that the document names. */
  readonly issuer: string;
  /** The product's version. */
  readonly version: string;
}

/**
 * Serves the OpenAPI document at `/api/openapi.json` and its user interface, from files of our own, at `/api/docs`.
 * The document is written once, when it is first asked for.
 *
 * @param app the application, not yet initialized
 */
export function setUpOpenApi(app: NestFastifyApplication, description: ApiDescription): void {
  const fastify = app.getHttpAdapter().getInstance();
  // Not by `SwaggerModule`: that writes the whole document anew for each request, some 300 KB that anybody may ask for.
  let written: Buffer | null = null;
  fastify.get('/api/openapi.json', (_request, reply) => {
    written ??= Buffer.from(JSON.stringify(openApiDocument(app, description)));
    return reply.type('application/json; charset=utf-8').send(written);
  });
  serveApiDocsPage(fastify);
}

/** The OpenAPI 3.1 document of `app`. */
export function openApiDocument(app: NestFastifyApplication, { issuer, version }: ApiDescription): OpenAPIObject {
  const config = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('SentryAgent AgentIdP')
    .setDescription('An identity provider for AI agents: OAuth 2.0 client credentials with immediate revocation.')
    .setVersion(version)
    .addServer(issuer)
    .addBearerAuth({ type: 'http', scheme: 'bearer', bearerFormat: 'JWT' }, SECURITY_SCHEMES.bearer)
    .addBasicAuth({ type: 'http', scheme: 'basic' }, SECURITY_SCHEMES.clientBasic)
    .build();
  const components = { ...config.components, schemas: { ...config.components?.schemas, ...ERROR_SCHEMAS } };
  const document = SwaggerModule.createDocument(app, { ...config, components });
  for (const [path, operations] of Object.entries(document.paths)) {
    dropInventedSuccesses(operations);
    addTransportErrors(path, operations);
  }
  return document;
}

/** The methods of requests whose bodies are read, also where nobody asked for one. */
const WITH_BODY: ReadonlySet<string> = new Set(['post', 'put', 'patch', 'delete']);

interface DescribedOperation {
  responses: Record<string, object>;
  readonly security?: unknown;
}

/**
 * Documents what every operation answers whatever its handler does: to a request that is not well-formed, to a body that
 * is too large or of the wrong media type, and, where somebody is to be authenticated, while the database is away.
 */
function addTransportErrors(path: string, operations: object): void {
  for (const [method, operation] of Object.entries(operations) as [string, DescribedOperation][]) {
    const shape = isOAuthPath(path) ? oauthTransportErrors : transportProblems;
    operation.responses = { ...shape(WITH_BODY.has(method), operation.security !== undefined), ...operation.responses };
  }
}

function transportProblems(withBody: boolean, needsDatabase: boolean): Record<string, ErrorResponse> {
  const ofBody = withBody ? ([413, 415] as const) : [];
  return problemResponses(400, ...ofBody, ...(needsDatabase ? ([503] as const) : []));
}

function oauthTransportErrors(withBody: boolean): Record<string, ErrorResponse> {
  return oauthResponses('invalidRequest', ...(withBody ? (['payloadTooLarge'] as const) : []));
}

/** Nest invents an empty success for an operation that declares none: one that refuses every request has none. */
function dropInventedSuccesses(operations: object): void {
  for (const { responses } of Object.values(operations) as { responses: Record<string, object> }[]) {
    for (const status of ['200', '201']) {
      const response = responses[status];
      if (response !== undefined && !('content' in response)) delete responses[status];
    }
  }
}
