import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';

const EXAMPLE_HASH = '9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08';

/** A checkpoint over the chain as it is now. */
export class CurrentCheckpointView {
  @ApiProperty({ description: 'A compact JWS, typ `audit-checkpoint+jwt`, signed with an audit key of the JWKS.' })
  readonly checkpoint!: string;
}

/** A checkpoint, and what it states. */
export class CheckpointView extends CurrentCheckpointView {
  @ApiProperty({ format: 'uuid' })
  readonly organizationId!: string;

  @ApiProperty({ description: 'The last event that it covers.', example: 700 })
  readonly sequence!: number;

  @ApiProperty({ description: "That event's hash.", example: EXAMPLE_HASH })
  readonly hash!: string;

  @ApiProperty({ description: 'The root of the RFC 9162 tree over events 1 to `sequence`.', example: EXAMPLE_HASH })
  readonly rootHash!: string;

  @ApiProperty({ format: 'date-time' })
  readonly issuedAt!: string;

  @ApiProperty({ type: String, nullable: true, description: 'hex(SHA-256(the checkpoint before)).' })
  readonly previousCheckpointHash!: string | null;
}

/** A page of checkpoints. */
export class CheckpointPage extends Page<CheckpointView> {
  @ApiProperty({ type: [CheckpointView] })
  declare readonly data: readonly CheckpointView[];
}
