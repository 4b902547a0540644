import { Controller, Get, Res } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { Config } from '../platform/config/config.js';
import { Public } from '../platform/kernel/access.js';
import { JwksView } from './dto/jwks.view.js';
import { KeysService } from './keys.service.js';

/** Publishes the JWK Set (RFC 7517 §5) for those who verify our tokens. */
@ApiTags('Discovery')
@Controller('.well-known')
export class JwksController {
  constructor(
    private readonly keys: KeysService,
    private readonly config: Config,
  ) {}

  @Get('jwks.json')
  @Public()
  @ApiOperation({ summary: 'The public keys that access tokens are verified with (RFC 7517)' })
  @ApiOkResponse({ type: JwksView })
  jwks(@Res({ passthrough: true }) reply: FastifyReply): Promise<JwksView> {
    void reply.header('Cache-Control', `public, max-age=${this.config.tokens.jwksMaxAgeSeconds}`);
    return this.keys.jwks();
  }
}
