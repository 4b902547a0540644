import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsString, MaxLength, MinLength } from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { AgentFields } from './agent-fields.js';

/** A change: members that are left out stay as they are. */
export class UpdateAgentBody extends AgentFields {
  @ApiPropertyOptional({ minLength: 1, maxLength: 128, example: 'invoice-classifier' })
  @MayBeOmitted()
  @IsString()
  @MinLength(1)
  @MaxLength(128)
  name?: string;
}
