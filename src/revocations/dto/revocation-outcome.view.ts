import { ApiProperty } from '@nestjs/swagger';

const NOT_COUNTED = 'Null where they could not be counted in time.';

/** What died, or would die. */
export class RevocationOutcomeView {
  @ApiProperty({ description: 'Whether nothing was done but to count.' })
  readonly dryRun!: boolean;

  @ApiProperty({ type: Number, nullable: true, description: `Agents whose tokens these are. ${NOT_COUNTED}` })
  readonly agents!: number | null;

  @ApiProperty({ type: Number, nullable: true, description: `Credentials that earned them. ${NOT_COUNTED}` })
  readonly credentials!: number | null;

  @ApiProperty({ type: Number, nullable: true, description: `Tokens that were alive. ${NOT_COUNTED}` })
  readonly tokens!: number | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'From this instant on no replica accepts them; null for a dry run.',
  })
  readonly effectiveAt!: string | null;

  @ApiProperty({
    type: String,
    format: 'uuid',
    nullable: true,
    description: 'The event that tells of it; null for a dry run.',
  })
  readonly eventId!: string | null;

  @ApiProperty({
    type: String,
    nullable: true,
    description: 'A compact JWS that states all this, signed with an audit key; null for a dry run.',
  })
  readonly receipt!: string | null;
}
