import { Column, Entity, PrimaryColumn } from 'typeorm';

/** An API of an organization's own: its `identifier` is the audience of the tokens for it (RFC 8707). */
@Entity({ name: 'resource_servers' })
export class ResourceServerEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ name: 'resource_id', type: 'uuid' })
  resourceId!: string;

  @Column({ type: 'text' })
  identifier!: string;

  /** The identifier in the one spelling that it is compared by; see `identifierKey`. */
  @Column({ name: 'identifier_key', type: 'text' })
  identifierKey!: string;

  @Column({ type: 'text' })
  name!: string;

  /** The longest lifetime of tokens for it, in seconds. */
  @Column({ name: 'token_ttl_seconds', type: 'integer', nullable: true })
  tokenTtlSeconds!: number | null;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @Column({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}

/** A scope that a resource server declares. */
@Entity({ name: 'resource_scopes' })
export class ResourceScopeEntity {
  @PrimaryColumn({ name: 'organization_id', type: 'uuid' })
  organizationId!: string;

  @PrimaryColumn({ type: 'text' })
  name!: string;

  @Column({ name: 'resource_id', type: 'uuid' })
  resourceId!: string;

  /** Its place among the scopes of its resource server. */
  @Column({ type: 'integer' })
  position!: number;

  @Column({ type: 'text' })
  description!: string;
}

/** A resource server with its scopes, in their order. */
export interface ResourceServer extends ResourceServerEntity {
  readonly scopes: readonly { readonly name: string; readonly description: string }[];
}
