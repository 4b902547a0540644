import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import { ApiCreatedResponse, ApiNoContentResponse, ApiOkResponse, ApiOperation, ApiTags } from '@nestjs/swagger';
import type { FastifyReply } from 'fastify';
import { ApiProblemResponses } from '../platform/http/api-responses.js';
import { Caller, Origin, RequireScopes } from '../platform/kernel/access.js';
import type { Principal, RequestOrigin } from '../platform/kernel/principal.js';
import { ListResourcesQuery } from './dto/list-resources.query.js';
import { CreateResourceBody, UpdateResourceBody } from './dto/resource.bodies.js';
import { ResourcePage, ResourceView } from './dto/resource.view.js';
import { ResourcesService } from './resources.service.js';

/** Resource servers over HTTP: declare, list, change, remove. */
@ApiTags('Resource servers')
@Controller('resources')
export class ResourcesController {
  constructor(private readonly resources: ResourcesService) {}

  @Post()
  @RequireScopes('resources:write')
  @ApiOperation({ summary: 'Register an API of your own as a resource server' })
  @ApiCreatedResponse({ type: ResourceView, headers: { Location: { schema: { type: 'string' } } } })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async create(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Body() body: CreateResourceBody,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<ResourceView> {
    const resource = await this.resources.create(caller, origin, body);
    void reply.header('Location', `/api/v1/resources/${resource.resourceId}`);
    return ResourceView.of(resource);
  }

  @Get()
  @RequireScopes('resources:read')
  @ApiOperation({ summary: 'List resource servers, newest first' })
  @ApiOkResponse({ type: ResourcePage })
  @ApiProblemResponses(400, 401, 403)
  async list(@Caller() caller: Principal, @Query() query: ListResourcesQuery): Promise<ResourcePage> {
    const page = await this.resources.list(caller, query.organizationId, query.limit, query.cursor);
    return { data: page.data.map((resource) => ResourceView.of(resource)), nextCursor: page.nextCursor };
  }

  @Get(':resourceId')
  @RequireScopes('resources:read')
  @ApiOperation({ summary: 'Read a resource server' })
  @ApiOkResponse({ type: ResourceView })
  @ApiProblemResponses(401, 403, 404)
  async read(@Caller() caller: Principal, @Param('resourceId') resourceId: string): Promise<ResourceView> {
    return ResourceView.of(await this.resources.read(caller, resourceId));
  }

  @Patch(':resourceId')
  @RequireScopes('resources:write')
  @ApiOperation({ summary: 'Change a resource server; a scope taken away is taken from agents and their tokens' })
  @ApiOkResponse({ type: ResourceView })
  @ApiProblemResponses(400, 401, 403, 404, 409, 413, 415)
  async update(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('resourceId') resourceId: string,
    @Body() body: UpdateResourceBody,
  ): Promise<ResourceView> {
    return ResourceView.of(await this.resources.update(caller, origin, resourceId, body));
  }

  @Delete(':resourceId')
  @HttpCode(204)
  @RequireScopes('resources:write')
  @ApiOperation({ summary: 'Delete a resource server; its scopes are taken from agents and their tokens' })
  @ApiNoContentResponse()
  @ApiProblemResponses(401, 403, 404)
  delete(
    @Caller() caller: Principal,
    @Origin() origin: RequestOrigin,
    @Param('resourceId') resourceId: string,
  ): Promise<void> {
    return this.resources.delete(caller, origin, resourceId);
  }
}
