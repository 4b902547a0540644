import { Controller, Get, Header, Req } from '@nestjs/common';
import { ApiExcludeEndpoint, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { Config } from '../platform/config/config.js';
import { ASSERTION_ALGORITHMS } from '../platform/jws/public-key.js';
import { Public } from '../platform/kernel/access.js';
import { Problem } from '../platform/kernel/problem.js';
import { BUILT_IN_SCOPE_NAMES } from '../platform/kernel/scopes.js';
import { ServerMetadataView } from './dto/server-metadata.view.js';

const CLIENT_AUTHENTICATION_METHODS = ['client_secret_basic', 'client_secret_post', 'private_key_jwt'] as const;

/** Publishes the authorization server metadata (RFC 8414). */
@ApiTags('Discovery')
@Controller('.well-known')
export class MetadataController {
  private readonly metadata: ServerMetadataView;
  /** Where RFC 8414 §3.1 puts the document of an issuer whose identifier has a path. */
  private readonly issuerPath: string;

  constructor(config: Config) {
    const { issuer } = config.tokens;
    this.issuerPath = `/.well-known/oauth-authorization-server${new URL(issuer).pathname}`;
    this.metadata = {
      issuer,
      authorization_endpoint: `${issuer}/api/v1/authorize`,
      token_endpoint: `${issuer}/api/v1/token`,
      jwks_uri: `${issuer}/.well-known/jwks.json`,
      introspection_endpoint: `${issuer}/api/v1/token/introspect`,
      revocation_endpoint: `${issuer}/api/v1/token/revoke`,
      scopes_supported: BUILT_IN_SCOPE_NAMES,
      response_types_supported: [],
      grant_types_supported: ['client_credentials'],
      token_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION_METHODS,
      token_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
      introspection_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION_METHODS,
      introspection_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
      revocation_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION_METHODS,
      revocation_endpoint_auth_signing_alg_values_supported: ASSERTION_ALGORITHMS,
      service_documentation: `${issuer}/api/docs`,
    };
  }

  @Get('oauth-authorization-server')
  @Public()
  @Header('Cache-Control', 'public, max-age=300')
  @ApiOperation({
    summary: 'Authorization server metadata (RFC 8414)',
    description:
      'Where the issuer has a path, the same document also stands at this path followed by that one, as RFC 8414 §3.1 asks.',
  })
  @ApiOkResponse({ type: ServerMetadataView })
  read(): ServerMetadataView {
    return this.metadata;
  }

  @Get('oauth-authorization-server/*')
  @Public()
  @Header('Cache-Control', 'public, max-age=300')
  @ApiExcludeEndpoint()
  readAtIssuerPath(@Req() request: FastifyRequest): ServerMetadataView {
    if (request.url.split('?', 1)[0] !== this.issuerPath) throw new Problem('not_found');
    return this.metadata;
  }
}
