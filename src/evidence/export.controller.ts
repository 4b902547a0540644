import { Controller, Get, Headers, Logger, Query, Res, StreamableFile } from '@nestjs/common';
import { ApiHeader, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { pipeline } from 'node:stream';
import { constants, createGzip, type ZlibOptions } from 'node:zlib';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { ExportQuery } from './dto/export.query.js';
import { ExportService } from './export.service.js';

const NDJSON = 'application/x-ndjson';
/**
 * The fastest level, and a piece for each batch of events: what is left of a line is hashes and ids, which no level makes
 * smaller, and the usual one takes twice as long on the processors that sign tokens.
 */
const GZIP: ZlibOptions = { level: constants.Z_BEST_SPEED, chunkSize: 64 * 1024 };

/** The export of a chain over HTTP. */
@ApiTags('Audit')
@Controller('audit/export')
@RequireScopes('audit:read')
export class ExportController {
  private readonly logger = new Logger(ExportController.name);

  constructor(private readonly exports: ExportService) {}

  @Get()
  @ApiOperation({
    summary: 'Export the chain as NDJSON, oldest first, with its checkpoints; it verifies offline',
    description: 'See docs/audit-evidence.md for the format.',
  })
  @ApiHeader({ name: 'Accept-Encoding', required: false, description: '`gzip` compresses the stream.' })
  @ApiOkResponse({ content: { [NDJSON]: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 404, 409, 429, 503)
  async export(
    @Caller() caller: Principal,
    @Query() query: ExportQuery,
    @Headers('accept-encoding') encoding: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<StreamableFile> {
    const lines = await this.exports.export(organizationFor(caller, query.organizationId), query.fromSequence ?? 1);
    void reply.header('Vary', 'Accept-Encoding');
    if (!acceptsGzip(encoding)) return new StreamableFile(lines, { type: NDJSON });
    void reply.header('Content-Encoding', 'gzip');
    const gzip = createGzip(GZIP);
    pipeline(lines, gzip, (error) => {
      if (error) this.logger.warn(`an export ended early: ${error.message}`);
    });
    return new StreamableFile(gzip, { type: NDJSON });
  }
}

/** Whether an Accept-Encoding (RFC 9110 §12.5.3) names gzip and does not refuse it. */
function acceptsGzip(encoding = ''): boolean {
  return encoding.split(',').some((item) => {
    const [name = '', ...parameters] = item.split(';').map((part) => part.trim().toLowerCase());
    return name === 'gzip' && !parameters.some((parameter) => /^q=0(\.0*)?$/.test(parameter));
  });
}
