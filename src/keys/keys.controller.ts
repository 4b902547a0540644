import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { PageQuery } from '../platform/http/page.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { SigningKeyPage, SigningKeyView } from './dto/key.views.js';
import { RotateKeysBody } from './dto/rotate-keys.body.js';
import { KeyRotationService } from './key-rotation.service.js';
import { KeysService } from './keys.service.js';

/** Our own signing keys over HTTP, for the platform operator. */
@ApiTags('Keys')
@Controller('keys')
@RequireScopes('admin:orgs')
export class KeysController {
  constructor(
    private readonly keys: KeysService,
    private readonly rotation: KeyRotationService,
  ) {}

  @Get()
  @ApiOperation({ summary: 'List our signing keys and their phases, newest first' })
  @ApiOkResponse({ type: SigningKeyPage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Query() { limit, cursor }: PageQuery): Promise<SigningKeyPage> {
    return SigningKeyPage.ofKeys(await this.keys.list(limit, cursor));
  }

  @Post('rotate')
  @HttpCode(200)
  @ApiOperation({ summary: 'Have the next key sign; the one before is published until its last token has expired' })
  @ApiOkResponse({ type: SigningKeyView, description: 'The key that signs now.' })
  @ApiProblemResponses(400, 401, 403, 409, 413, 415)
  async rotate(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body?: RotateKeysBody,
  ): Promise<SigningKeyView> {
    return SigningKeyView.of(await this.rotation.rotate({ caller, origin }, body?.purpose ?? 'access_token'));
  }

  @Post(':kid/revoke')
  @HttpCode(200)
  @ApiOperation({ summary: 'Revoke a key: its tokens are dead on the next request; the next key signs at once' })
  @ApiOkResponse({ type: SigningKeyView })
  @ApiProblemResponses(401, 403, 404, 409)
  async revoke(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('kid') kid: string,
  ): Promise<SigningKeyView> {
    return SigningKeyView.of(await this.rotation.revoke({ caller, origin }, kid));
  }
}
