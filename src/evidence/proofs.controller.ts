import { Controller, Get, Param, Query } from '@nestjs/common';
import { ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, RequireScopes } from '../platform/kernel/access.js';
import type { Principal } from '../platform/kernel/principal.js';
import { organizationFor } from '../platform/kernel/tenancy.js';
import { ConsistencyQuery, TokenReceiptQuery } from './dto/proof.queries.js';
import { ConsistencyView, ReceiptView } from './dto/proof.views.js';
import { ProofsService } from './proofs.service.js';

/** Receipts and consistency proofs over HTTP. */
@ApiTags('Audit')
@Controller('audit')
@RequireScopes('audit:read')
export class ProofsController {
  constructor(private readonly proofs: ProofsService) {}

  @Get('receipt')
  @ApiOperation({ summary: 'Get a proof that the issuance of a token is in the log' })
  @ApiOkResponse({ type: ReceiptView })
  @ApiProblemResponses(400, 401, 403, 404, 409)
  tokenReceipt(@Caller() caller: Principal, @Query() query: TokenReceiptQuery): Promise<ReceiptView> {
    return this.proofs.tokenReceipt(caller, query.jti);
  }

  @Get('consistency')
  @ApiOperation({ summary: 'Get a proof that one checkpoint extends another' })
  @ApiOkResponse({ type: ConsistencyView })
  @ApiProblemResponses(400, 401, 403, 404, 409)
  consistency(@Caller() caller: Principal, @Query() query: ConsistencyQuery): Promise<ConsistencyView> {
    return this.proofs.consistency(organizationFor(caller, query.organizationId), query.from, query.to);
  }

  @Get(':eventId/receipt')
  @ApiOperation({ summary: 'Get a proof that an event is in the log' })
  @ApiOkResponse({ type: ReceiptView })
  @ApiProblemResponses(401, 403, 404, 409)
  receipt(@Caller() caller: Principal, @Param('eventId') eventId: string): Promise<ReceiptView> {
    return this.proofs.receipt(caller, eventId);
  }
}
