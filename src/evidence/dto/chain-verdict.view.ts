import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { BREAK_REASONS } from '../chain-verdict.js';

/** What the verification of a chain found. */
export class ChainVerdictView {
  @ApiProperty()
  readonly valid!: boolean;

  @ApiProperty({ description: 'How many events were found right.', example: 128 })
  readonly checked!: number;

  @ApiProperty({ type: Number, nullable: true, example: 1 })
  readonly firstSequence!: number | null;

  @ApiProperty({ type: Number, nullable: true, example: 128 })
  readonly lastSequence!: number | null;

  @ApiProperty({ type: String, nullable: true, description: 'The hash of the last event that was found right.' })
  readonly headHash!: string | null;

  @ApiProperty({ type: Number, nullable: true, description: 'The first sequence that is missing or wrong.' })
  readonly brokenAt!: number | null;

  @ApiPropertyOptional({
    enum: Object.keys(BREAK_REASONS),
    description: Object.entries(BREAK_REASONS)
      .map(([reason, meaning]) => `\`${reason}\`: ${meaning}`)
      .join(' '),
  })
  readonly reason?: string;
}
