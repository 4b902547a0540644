import { Controller, Get, Post } from '@nestjs/common';
import { ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiOAuthErrorResponses } from '../platform/http/api-responses.js';
import { Public } from '../platform/kernel/access.js';
import { oauthErrors } from '../platform/kernel/oauth-error.js';

/**
 * There is no authorization-code flow. The endpoint exists because some clients refuse metadata without one; it answers
 * every request with `unsupported_response_type` and never redirects.
 */
@ApiTags('OAuth')
@Controller('authorize')
@Public()
@ApiOAuthErrorResponses('unsupportedResponseType')
export class AuthorizationController {
  @Get()
  @ApiOperation({ summary: 'Always refused: only the client-credentials grant is supported' })
  refuse(): never {
    throw oauthErrors.unsupportedResponseType;
  }

  @Post()
  @ApiOperation({ summary: 'Always refused: only the client-credentials grant is supported' })
  refusePost(): never {
    throw oauthErrors.unsupportedResponseType;
  }
}
