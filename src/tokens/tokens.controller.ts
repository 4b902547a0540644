import { Controller, HttpCode, Post, Req } from '@nestjs/common';
import { ApiBody, ApiConsumes, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';
import { ApiOAuthErrorResponses } from '../platform/http/api-responses.js';
import { formOf } from '../platform/http/oauth-form.js';
import { AuthenticateClient, Caller, CallingClient, Origin, RequireScopesOrClient } from '../platform/kernel/access.js';
import type { Client } from '../platform/kernel/client.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { IntrospectionView, RevocationView, TokenForm, TokenReferenceForm, TokenView } from './dto/token.views.js';
import { Introspections } from './introspections.js';
import { checkTokenRequestShape, requiredToken } from './token-request.js';
import { TokensService } from './tokens.service.js';

/** The OAuth endpoints: token (RFC 6749 §3.2), introspection (RFC 7662), revocation (RFC 7009). */
@ApiTags('OAuth')
@ApiConsumes('application/x-www-form-urlencoded')
@Controller('token')
export class TokensController {
  constructor(
    private readonly tokens: TokensService,
    private readonly introspections: Introspections,
  ) {}

  @Post()
  @HttpCode(200)
  @AuthenticateClient(checkTokenRequestShape)
  @ApiOperation({ summary: 'Issue an access token: the client-credentials grant (RFC 6749 section 4.4)' })
  @ApiBody({ type: TokenForm })
  @ApiOkResponse({ type: TokenView })
  @ApiOAuthErrorResponses(
    'invalidRequest',
    'unsupportedGrantType',
    'invalidScope',
    'invalidTarget',
    'invalidClient',
    'tooManyFailures',
    'agentSuspended',
    'organizationSuspended',
    'quotaReached',
    'payloadTooLarge',
    'temporarilyUnavailable',
  )
  issue(
    @CallingClient() client: Client,
    @Origin() origin: RequestOrigin,
    @Req() request: FastifyRequest,
  ): Promise<TokenView> {
    return this.tokens.issue(client, formOf(request), origin);
  }

  @Post('introspect')
  @HttpCode(200)
  @RequireScopesOrClient(['tokens:read'], ['tokens:read'])
  @ApiOperation({ summary: 'Tell whether a token is active (RFC 7662)' })
  @ApiBody({ type: TokenReferenceForm })
  @ApiOkResponse({ type: IntrospectionView })
  @ApiOAuthErrorResponses(
    'invalidRequest',
    'invalidClient',
    'tooManyFailures',
    'invalidToken',
    'insufficientScope',
    'payloadTooLarge',
    'temporarilyUnavailable',
  )
  async introspect(@Caller() caller: Principal, @Req() request: FastifyRequest): Promise<IntrospectionView> {
    const target = await this.introspections.target(request, requiredToken(formOf(request)));
    return this.tokens.introspect(caller, target);
  }

  @Post('revoke')
  @HttpCode(200)
  @RequireScopesOrClient([], [])
  @ApiOperation({ summary: 'Revoke a token (RFC 7009)' })
  @ApiBody({ type: TokenReferenceForm })
  @ApiOkResponse({ type: RevocationView })
  @ApiOAuthErrorResponses(
    'invalidRequest',
    'invalidClient',
    'tooManyFailures',
    'invalidToken',
    'insufficientScope',
    'payloadTooLarge',
    'temporarilyUnavailable',
  )
  async revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Req() request: FastifyRequest,
  ): Promise<RevocationView> {
    await this.tokens.revoke(caller, requiredToken(formOf(request)), origin);
    return {};
  }
}
