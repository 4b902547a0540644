import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { IsString, IsUUID, MaxLength, MinLength } from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { AgentFields } from './agent-fields.js';

/** A registration. */
export class CreateAgentBody extends AgentFields {
  @ApiProperty({ minLength: 1, maxLength: 128, example: 'invoice-classifier' })
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name!: string;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}
