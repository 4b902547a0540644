import { ApiProperty } from '@nestjs/swagger';

/** A JWK Set, RFC 7517 §5. */
export class JwksView {
  @ApiProperty({
    type: 'array',
    items: { type: 'object', additionalProperties: true, required: ['kty', 'kid', 'use', 'alg'] },
    example: [{ kty: 'RSA', kid: 'Nf…', use: 'sig', alg: 'RS256', n: '0vx7…', e: 'AQAB' }],
  })
  readonly keys!: readonly object[];
}
