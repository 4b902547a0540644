import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import type { ResourceServer } from '../resource-server.entity.js';

/** A scope of a resource server. */
export class ResourceScopeView {
  @ApiProperty({ example: 'invoices:read' })
  readonly name!: string;

  @ApiProperty({ example: 'Read invoices' })
  readonly description!: string;
}

/** A resource server as callers see it. */
export class ResourceView {
  @ApiProperty({ format: 'uuid' })
  readonly resourceId!: string;

  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ description: 'The aud of the tokens for it.', example: 'https://invoices.example.com' })
  readonly identifier!: string;

  @ApiProperty({ example: 'Invoices' })
  readonly name!: string;

  @ApiProperty({ type: [ResourceScopeView] })
  readonly scopes!: readonly ResourceScopeView[];

  @ApiProperty({ type: Number, nullable: true })
  readonly tokenTtlSeconds!: number | null;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({ format: 'date-time' })
  readonly updatedAt!: string;

  /** What callers may see of a resource server. */
  static of(resource: ResourceServer): ResourceView {
    return {
      resourceId: resource.resourceId,
      organizationId: resource.organizationId,
      identifier: resource.identifier,
      name: resource.name,
      scopes: resource.scopes,
      tokenTtlSeconds: resource.tokenTtlSeconds,
      createdAt: resource.createdAt.toISOString(),
      updatedAt: resource.updatedAt.toISOString(),
    };
  }
}

/** A page of resource servers. */
export class ResourcePage extends Page<ResourceView> {
  @ApiProperty({ type: [ResourceView] })
  declare readonly data: readonly ResourceView[];
}
