import { Controller, Get } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { Public } from '../kernel/access.js';
import { ApiProblemResponses } from './api-responses.js';
import { Readiness, type ReadyReport } from './readiness.js';

/** What orchestrators and load balancers ask. */
@ApiTags('operations')
@Controller('health')
export class HealthController {
  constructor(private readonly readiness: Readiness) {}

  /** Whether the process runs; says nothing about the database, or a restart would be tried to cure it. */
  @Get('live')
  @Public()
  @ApiOperation({ summary: 'Whether the process runs' })
  @ApiOkResponse({ description: 'It runs', schema: { type: 'object', example: { status: 'ok' } } })
  live(): { status: 'ok' } {
    return { status: 'ok' };
  }

  /** Whether this replica should get requests. */
  @Get('ready')
  @Public()
  @ApiOperation({ summary: 'Whether this replica should get requests' })
  @ApiOkResponse({
    description: 'It should',
    schema: { type: 'object', example: { status: 'ok', checks: { database: 'up' } } },
  })
  @ApiProblemResponses(503)
  ready(): Promise<ReadyReport> {
    return this.readiness.check();
  }
}
