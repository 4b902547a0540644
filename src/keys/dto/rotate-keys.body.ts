import { ApiPropertyOptional } from '@nestjs/swagger';
import { IsIn } from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { KEY_PURPOSES, type KeyPurpose } from '../signing-key.entity.js';

/** A rotation. */
export class RotateKeysBody {
  @ApiPropertyOptional({ enum: KEY_PURPOSES, default: 'access_token', description: 'What the key signs.' })
  @MayBeOmitted()
  @IsIn(KEY_PURPOSES)
  purpose?: KeyPurpose;
}
