import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { Config } from '../platform/config/config.js';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes, RequireScopesOrOperator } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { ListPartnersQuery } from './dto/list-partners.query.js';
import { CreatePartnerBody, UpdatePartnerBody, VerifyAssertionBody } from './dto/partner.bodies.js';
import { AssertionVerdictView, PartnerPage, PartnerView } from './dto/partner.views.js';
import { PartnersService } from './partners.service.js';
import { VerificationService } from './verification.service.js';

/** Federation partners over HTTP. */
@ApiTags('Federation')
@Controller('federation')
export class FederationController {
  private readonly issuer: string;

  constructor(
    private readonly partners: PartnersService,
    private readonly verification: VerificationService,
    config: Config,
  ) {
    this.issuer = config.tokens.issuer;
  }

  @Post('partners')
  @RequireScopes('admin:orgs')
  @ApiOperation({ summary: 'Trust an issuer, so that its assertions can prove agents' })
  @ApiCreatedResponse({ type: PartnerView, headers: { Location: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: CreatePartnerBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<PartnerView> {
    const partner = await this.partners.create(caller, origin, body);
    void reply.header('Location', `/api/v1/federation/partners/${partner.partnerId}`);
    return PartnerView.of(partner, this.issuer);
  }

  @Get('partners')
  @RequireScopesOrOperator('agents:read')
  @ApiOperation({ summary: 'List partners, newest first' })
  @ApiOkResponse({ type: PartnerPage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Caller() caller: Principal, @Query() query: ListPartnersQuery): Promise<PartnerPage> {
    const page = await this.partners.list(caller, query.organizationId, query.limit, query.cursor);
    return { data: page.data.map((partner) => PartnerView.of(partner, this.issuer)), nextCursor: page.nextCursor };
  }

  @Get('partners/:partnerId')
  @RequireScopesOrOperator('agents:read')
  @ApiOperation({ summary: 'Read a partner' })
  @ApiOkResponse({ type: PartnerView })
  @ApiProblemResponses(401, 403, 404)
  async read(@Caller() caller: Principal, @Param('partnerId') partnerId: string): Promise<PartnerView> {
    return PartnerView.of(await this.partners.read(caller, partnerId), this.issuer);
  }

  @Patch('partners/:partnerId')
  @RequireScopes('admin:orgs')
  @ApiOperation({ summary: 'Change, disable or enable a partner; it holds on the next request' })
  @ApiOkResponse({ type: PartnerView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async update(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('partnerId') partnerId: string,
    @Body() body: UpdatePartnerBody,
  ): Promise<PartnerView> {
    return PartnerView.of(await this.partners.update(caller, origin, partnerId, body), this.issuer);
  }

  @Delete('partners/:partnerId')
  @HttpCode(204)
  @RequireScopes('admin:orgs')
  @ApiOperation({ summary: 'Delete a partner with its identities; the tokens that these earned are dead' })
  @ApiNoContentResponse()
  @ApiProblemResponses(401, 403, 404, 409)
  delete(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('partnerId') partnerId: string,
  ): Promise<void> {
    return this.partners.delete(caller, origin, partnerId);
  }

  @Post('verify')
  @HttpCode(200)
  @RequireScopes('tokens:read')
  @ApiOperation({ summary: 'Tell whether an assertion is one of a partner, and why not' })
  @ApiOkResponse({ type: AssertionVerdictView })
  @ApiProblemResponses(400, 401, 403, 413, 415)
  verify(@Caller() caller: Principal, @Body() body: VerifyAssertionBody): Promise<AssertionVerdictView> {
    return this.verification.verify(caller, body);
  }
}
