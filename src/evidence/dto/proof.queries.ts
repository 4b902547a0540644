import { ApiProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsUUID, Max, Min } from 'class-validator';
import { OrganizationQuery } from './organization.query.js';

/** Which token's receipt. */
export class TokenReceiptQuery {
  @ApiProperty({ format: 'uuid', description: 'The `jti` of an access token.' })
  @IsUUID()
  jti!: string;
}

/** Which two checkpoints. */
export class ConsistencyQuery extends OrganizationQuery {
  @ApiProperty({
    type: Number,
    minimum: 1,
    description: 'The `sequence` of the earlier checkpoint, of the list or not.',
  })
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  from!: number;

  @ApiProperty({ type: Number, minimum: 1, description: 'The `sequence` of the later checkpoint, one of the list.' })
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(Number.MAX_SAFE_INTEGER)
  to!: number;
}
