import { ApiProperty } from '@nestjs/swagger';

/** Authorization server metadata, RFC 8414 §2. */
export class ServerMetadataView {
  @ApiProperty({ example: 'https://id.example.com' })
  readonly issuer!: string;

  @ApiProperty({ description: 'Answers every request with unsupported_response_type; some clients want it named.' })
  readonly authorization_endpoint!: string;

  @ApiProperty()
  readonly token_endpoint!: string;

  @ApiProperty()
  readonly jwks_uri!: string;

  @ApiProperty()
  readonly introspection_endpoint!: string;

  @ApiProperty()
  readonly revocation_endpoint!: string;

  @ApiProperty({ type: [String] })
  readonly scopes_supported!: readonly string[];

  @ApiProperty({ type: [String], example: [] })
  readonly response_types_supported!: readonly string[];

  @ApiProperty({ type: [String], example: ['client_credentials'] })
  readonly grant_types_supported!: readonly string[];

  @ApiProperty({ type: [String] })
  readonly token_endpoint_auth_methods_supported!: readonly string[];

  @ApiProperty({ type: [String], example: ['RS256', 'ES256'] })
  readonly token_endpoint_auth_signing_alg_values_supported!: readonly string[];

  @ApiProperty({ type: [String] })
  readonly introspection_endpoint_auth_methods_supported!: readonly string[];

  @ApiProperty({ type: [String], example: ['RS256', 'ES256'] })
  readonly introspection_endpoint_auth_signing_alg_values_supported!: readonly string[];

  @ApiProperty({ type: [String] })
  readonly revocation_endpoint_auth_methods_supported!: readonly string[];

  @ApiProperty({ type: [String], example: ['RS256', 'ES256'] })
  readonly revocation_endpoint_auth_signing_alg_values_supported!: readonly string[];

  @ApiProperty()
  readonly service_documentation!: string;
}
