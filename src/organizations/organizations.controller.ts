import { Body, Controller, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { ListOrganizationsQuery } from './dto/list-organizations.query.js';
import { CreateOrganizationBody, UpdateOrganizationBody } from './dto/organization.bodies.js';
import { OrganizationPage, OrganizationView } from './dto/organization.view.js';
import { OrganizationsService } from './organizations.service.js';

/** Organizations over HTTP, for the platform operator. */
@ApiTags('Organizations')
@Controller('organizations')
@RequireScopes('admin:orgs')
export class OrganizationsController {
  constructor(private readonly organizations: OrganizationsService) {}

  @Post()
  @ApiOperation({ summary: 'Make an organization' })
  @ApiCreatedResponse({ type: OrganizationView, headers: { Location: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 409, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: CreateOrganizationBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<OrganizationView> {
    const organization = await this.organizations.create(caller, origin, body);
    void reply.header('Location', `/api/v1/organizations/${organization.organizationId}`);
    return OrganizationView.of(organization);
  }

  @Get()
  @ApiOperation({ summary: 'List organizations, newest first' })
  @ApiOkResponse({ type: OrganizationPage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Query() query: ListOrganizationsQuery): Promise<OrganizationPage> {
    const { limit, cursor, ...filter } = query;
    const page = await this.organizations.list(filter, limit, cursor);
    return { data: page.data.map((organization) => OrganizationView.of(organization)), nextCursor: page.nextCursor };
  }

  @Get(':organizationId')
  @ApiOperation({ summary: 'Read an organization' })
  @ApiOkResponse({ type: OrganizationView })
  @ApiProblemResponses(401, 403, 404)
  async read(@Param('organizationId') organizationId: string): Promise<OrganizationView> {
    return OrganizationView.of(await this.organizations.read(organizationId));
  }

  @Patch(':organizationId')
  @ApiOperation({ summary: 'Change an organization; limits merge, null goes back to the tier’s' })
  @ApiOkResponse({ type: OrganizationView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async update(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('organizationId') organizationId: string,
    @Body() body: UpdateOrganizationBody,
  ): Promise<OrganizationView> {
    return OrganizationView.of(await this.organizations.update(caller, origin, organizationId, body));
  }

  @Post(':organizationId/suspend')
  @HttpCode(200)
  @ApiOperation({ summary: 'Suspend an organization: it gets no tokens, and those it has are dead' })
  @ApiOkResponse({ type: OrganizationView })
  @ApiProblemResponses(401, 403, 404, 409)
  async suspend(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('organizationId') organizationId: string,
  ): Promise<OrganizationView> {
    return OrganizationView.of(await this.organizations.suspend(caller, origin, organizationId));
  }

  @Post(':organizationId/reactivate')
  @HttpCode(200)
  @ApiOperation({ summary: 'Let a suspended organization work again' })
  @ApiOkResponse({ type: OrganizationView })
  @ApiProblemResponses(401, 403, 404, 409)
  async reactivate(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('organizationId') organizationId: string,
  ): Promise<OrganizationView> {
    return OrganizationView.of(await this.organizations.reactivate(caller, origin, organizationId));
  }
}
