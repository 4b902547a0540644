import { ApiProperty } from '@nestjs/swagger';
import { IsObject } from 'class-validator';
import { CreateCredentialBody } from './credential.bodies.js';

/** For the API document. Its private half was never written down. */
const EXAMPLE_JWK = {
  kty: 'OKP',
  crv: 'Ed25519',
  x: '7PlALiOXm2QHRV2hWKSwuFEbAUAu2K8hw5OL5eOTGjs',
  kid: 'build-server-2026',
};

/** A new public key. */
export class CreateKeyBody extends CreateCredentialBody {
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    example: EXAMPLE_JWK,
    description: 'A public JWK: RSA of 2048 bits or more, P-256, P-384 or Ed25519. Private members are refused.',
  })
  @IsObject()
  jwk!: Record<string, unknown>;
}
