import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

/** The form of a token request; documentation only, the endpoint reads the form itself. */
export class TokenForm {
  @ApiProperty({ enum: ['client_credentials'] })
  readonly grant_type!: string;

  @ApiPropertyOptional({ format: 'uuid', description: "The agent's agentId; left out with HTTP Basic." })
  readonly client_id?: string;

  @ApiPropertyOptional({ description: 'The secret; left out with HTTP Basic.' })
  readonly client_secret?: string;

  @ApiPropertyOptional({ enum: ['urn:ietf:params:oauth:client-assertion-type:jwt-bearer'] })
  readonly client_assertion_type?: string;

  @ApiPropertyOptional({
    description: 'A JWT in the place of a secret (RFC 7523): one that the agent or a partner signed.',
  })
  readonly client_assertion?: string;

  @ApiPropertyOptional({ description: 'Scopes separated by spaces; all of the agent unless given.' })
  readonly scope?: string;

  @ApiPropertyOptional({ description: 'The audience that the token is for (RFC 8707).' })
  readonly resource?: string;
}

/** The form of an introspection or a revocation; documentation only. */
export class TokenReferenceForm {
  @ApiProperty()
  readonly token!: string;

  @ApiPropertyOptional({ description: 'Not needed, and not looked at.' })
  readonly token_type_hint?: string;

  @ApiPropertyOptional({ format: 'uuid' })
  readonly client_id?: string;

  @ApiPropertyOptional()
  readonly client_secret?: string;

  @ApiPropertyOptional({ enum: ['urn:ietf:params:oauth:client-assertion-type:jwt-bearer'] })
  readonly client_assertion_type?: string;

  @ApiPropertyOptional({
    description: 'A JWT in the place of a secret (RFC 7523): one that the agent or a partner signed.',
  })
  readonly client_assertion?: string;
}

/** A token, RFC 6749 §5.1. */
export class TokenView {
  @ApiProperty({ example: 'eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9…' })
  readonly access_token!: string;

  @ApiProperty({ enum: ['Bearer'] })
  readonly token_type!: 'Bearer';

  @ApiProperty({ description: 'Lifetime in seconds.', example: 3600 })
  readonly expires_in!: number;

  @ApiProperty({ example: 'agents:read agents:write' })
  readonly scope!: string;
}

/** What introspection tells, RFC 7662 §2.2: `active` alone when it is false. */
export class IntrospectionView {
  @ApiProperty()
  readonly active!: boolean;

  @ApiPropertyOptional({ format: 'uuid' })
  readonly sub?: string;

  @ApiPropertyOptional({ format: 'uuid' })
  readonly client_id?: string;

  @ApiPropertyOptional({ example: 'agents:read agents:write' })
  readonly scope?: string;

  @ApiPropertyOptional({ enum: ['Bearer'] })
  readonly token_type?: 'Bearer';

  @ApiPropertyOptional({ example: 1_743_151_200 })
  readonly iat?: number;

  @ApiPropertyOptional({ example: 1_743_154_800 })
  readonly exp?: number;

  @ApiPropertyOptional()
  readonly iss?: string;

  @ApiPropertyOptional({ oneOf: [{ type: 'string' }, { type: 'array', items: { type: 'string' } }] })
  readonly aud?: string | readonly string[];

  @ApiPropertyOptional({ format: 'uuid' })
  readonly jti?: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'The organization.' })
  readonly org?: string;
}

/** The answer to a revocation: empty. */
export class RevocationView {}
