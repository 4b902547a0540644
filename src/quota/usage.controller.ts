import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { RequireScopes } from '../platform/kernel/access.js';
import { UsageQuery } from './dto/usage.query.js';
import { UsageView } from './dto/usage.view.js';
import { UsageService } from './usage.service.js';

/** An organization's usage over HTTP, for the platform operator. */
@ApiTags('Organizations')
@Controller('organizations/:organizationId/usage')
export class UsageController {
  constructor(private readonly usage: UsageService) {}

  @Get()
  @RequireScopes('admin:orgs')
  @ApiOperation({ summary: 'Read the usage of an organization by day and month, with refusals by reason' })
  @ApiOkResponse({ type: UsageView })
  @ApiProblemResponses(400, 401, 403, 404)
  read(@Param('organizationId') organizationId: string, @Query() query: UsageQuery): Promise<UsageView> {
    return this.usage.read(organizationId, query.from, query.to);
  }
}
