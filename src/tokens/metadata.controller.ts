import { Controller, Get, Header } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Config } from '../platform/config/config.js';
import { Public } from '../platform/kernel/access.js';
import { BUILT_IN_SCOPE_NAMES } from '../platform/kernel/scopes.js';
import { ServerMetadataView } from './dto/server-metadata.view.js';

const CLIENT_AUTHENTICATION_METHODS = ['client_secret_basic', 'client_secret_post'] as const;

/** Publishes the authorization server metadata (RFC 8414). */
@ApiTags('Discovery')
@Controller('.well-known')
export class MetadataController {
  private readonly metadata: ServerMetadataView;

  constructor(config: Config) {
    const { issuer } = config.tokens;
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
      introspection_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION_METHODS,
      revocation_endpoint_auth_methods_supported: CLIENT_AUTHENTICATION_METHODS,
      service_documentation: `${issuer}/api/docs`,
    };
  }

  @Get('oauth-authorization-server')
  @Public()
  @Header('Cache-Control', 'public, max-age=300')
  @ApiOperation({ summary: 'Authorization server metadata (RFC 8414)' })
  @ApiOkResponse({ type: ServerMetadataView })
  read(): ServerMetadataView {
    return this.metadata;
  }
}
