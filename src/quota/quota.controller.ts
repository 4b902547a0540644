import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { QuotaQuery } from './dto/quota.query.js';
import { QuotaView } from './dto/quota.view.js';
import { QuotaService } from './quota.service.js';

/** The caller's limits and usage over HTTP. */
@ApiTags('Quota')
@Controller('quota')
export class QuotaController {
  constructor(private readonly quota: QuotaService) {}

  @Get()
  @RequireScopes('agents:read')
  @ApiOperation({ summary: "Read the organization's limits and this month's usage" })
  @ApiOkResponse({ type: QuotaView })
  @ApiProblemResponses(400, 401, 403, 404)
  read(@Caller() caller: Principal, @Query() query: QuotaQuery): Promise<QuotaView> {
    return this.quota.read(organizationFor(caller, query.organizationId));
  }
}
