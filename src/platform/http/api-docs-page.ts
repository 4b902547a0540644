import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { FastifyInstance } from 'fastify';

/** The files of swagger-ui-dist that the page needs, and their media types; nothing else of the package is served. */
const ASSETS = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
  'favicon-32x32.png': 'image/png',
} as const;

const ASSET_CACHING = 'public, max-age=3600';

// All links are relative to /api/docs, so that the page also works behind a proxy that adds a prefix.
const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>SentryAgent AgentIdP</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
`;

// The document names the issuer as its server. The page asks where it was opened, which may be another name of the same
// service (127.0.0.1 for localhost): a browser lets it ask nobody else.
const START_SCRIPT = `const start = (document) => SwaggerUIBundle({
  ...document,
  dom_id: '#swagger-ui',
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  layout: 'BaseLayout',
});
const here = new URL('..', location.href).href.slice(0, -1);
fetch('openapi.json')
  .then((answer) => answer.json())
  .then((spec) => start({ spec: { ...spec, servers: [{ url: here }] } }), () => start({ url: 'openapi.json' }));
`;

/**
 * Serves the user interface of the API document at `/api/docs`, from the installed swagger-ui-dist. Not by
 * `SwaggerModule`: that mounts the whole package, and ends the process where `@fastify/static` cannot be loaded, which
 * is so under Jest on Node 20.
 */
export function serveApiDocsPage(fastify: FastifyInstance): void {
  const directory = swaggerUiDirectory();
  fastify.get('/api/docs', (_request, reply) => reply.type('text/html; charset=utf-8').send(PAGE));
  fastify.get('/api/docs/', (_request, reply) => reply.redirect('../docs'));
  fastify.get('/api/docs/start.js', (_request, reply) =>
    reply.type('text/javascript; charset=utf-8').send(START_SCRIPT),
  );
  for (const [name, type] of Object.entries(ASSETS)) {
    fastify.get(`/api/docs/${name}`, (_request, reply) =>
      reply
        .type(type)
        .header('cache-control', ASSET_CACHING)
        .send(createReadStream(join(directory, name))),
    );
  }
}

/** Where swagger-ui-dist is installed: it is a dependency of `@nestjs/swagger`, so it is looked up from there. */
function swaggerUiDirectory(): string {
  const swagger = createRequire(import.meta.url).resolve('@nestjs/swagger');
  return dirname(createRequire(swagger).resolve('swagger-ui-dist/package.json'));
}
