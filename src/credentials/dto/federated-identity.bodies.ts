import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsObject, IsString, IsUUID, MaxLength, MinLength } from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { CreateCredentialBody } from './credential.bodies.js';

/** A new federated identity. */
export class CreateFederatedIdentityBody extends CreateCredentialBody {
  @ApiProperty({ format: 'uuid', description: "A partner of the agent's organization." })
  @IsUUID()
  partnerId!: string;

  @ApiProperty({
    minLength: 1,
    maxLength: 512,
    example: 'repo:octo-org/octo-repo:environment:production',
    description: 'What `sub` must be; `*` stands for exactly one segment between `/` or `:`.',
  })
  @IsString()
  @MinLength(1)
  @MaxLength(512)
  subject!: string;

  @ApiPropertyOptional({
    type: 'object',
    additionalProperties: true,
    example: { repository_owner_id: '65' },
    description: 'What other claims must be: a value, or an object whose members the claim must have.',
  })
  @MayBeOmitted()
  @IsObject()
  claims?: Record<string, unknown>;
}
