import { Controller, Get, Header } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiProduces, ApiTags } from '@nestjs/swagger';
import { Public } from '../kernel/access.js';
import { Metrics } from './metrics.js';

/** The media type of the Prometheus text format. */
const PROMETHEUS_TEXT = 'text/plain; version=0.0.4; charset=utf-8';

/** Where Prometheus collects. */
@ApiTags('operations')
@Controller('metrics')
export class MetricsController {
  constructor(private readonly metrics: Metrics) {}

  /** All metrics in the Prometheus text format. */
  @Get()
  @Public()
  @Header('Content-Type', PROMETHEUS_TEXT)
  @ApiOperation({ summary: 'Metrics in the Prometheus text format' })
  @ApiProduces('text/plain')
  @ApiOkResponse({ description: 'The metrics', schema: { type: 'string' } })
  render(): Promise<string> {
    return this.metrics.render();
  }
}
