import { Controller, Get, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { CheckpointsService } from './checkpoints.service.js';
import { CheckpointPage, CurrentCheckpointView } from './dto/checkpoint.views.js';
import { ListCheckpointsQuery, OrganizationQuery } from './dto/organization.query.js';

/** Signed checkpoints over HTTP. */
@ApiTags('Audit')
@Controller('audit')
@RequireScopes('audit:read')
export class CheckpointsController {
  constructor(private readonly checkpoints: CheckpointsService) {}

  @Get('checkpoint')
  @ApiOperation({ summary: 'Get a signed checkpoint over the chain as it is now' })
  @ApiOkResponse({ type: CurrentCheckpointView })
  @ApiProblemResponses(400, 401, 403, 404, 409)
  async current(@Caller() caller: Principal, @Query() query: OrganizationQuery): Promise<CurrentCheckpointView> {
    return { checkpoint: await this.checkpoints.current(organizationFor(caller, query.organizationId)) };
  }

  @Get('checkpoints')
  @ApiOperation({ summary: 'List signed checkpoints, newest first' })
  @ApiOkResponse({ type: CheckpointPage })
  @ApiProblemResponses(400, 401, 403)
  list(@Caller() caller: Principal, @Query() query: ListCheckpointsQuery): Promise<CheckpointPage> {
    return this.checkpoints.list(organizationFor(caller, query.organizationId), query.limit, query.cursor);
  }
}
