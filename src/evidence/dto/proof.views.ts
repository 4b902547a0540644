import { ApiProperty } from '@nestjs/swagger';

/** The event of a receipt, as `GET /audit/{eventId}` gives it. */
type ReceiptEvent = object;

/** A proof that one event is in the log that a checkpoint states. */
export class ReceiptView {
  @ApiProperty({
    type: 'object',
    additionalProperties: true,
    description: 'The event, as `GET /audit/{eventId}` gives it.',
  })
  readonly event!: ReceiptEvent;

  @ApiProperty({ description: 'Its place in the tree: `sequence` - 1.', example: 41 })
  readonly leafIndex!: number;

  @ApiProperty({ description: "The leaves of the tree: the checkpoint's `sequence`.", example: 700 })
  readonly treeSize!: number;

  @ApiProperty({ type: [String], description: 'The inclusion path of RFC 9162 section 2.1.3, in hex.' })
  readonly inclusionPath!: readonly string[];

  @ApiProperty({ description: 'The checkpoint, whose `rootHash` the path leads to.' })
  readonly checkpoint!: string;
}

/** A proof that one checkpoint extends another. */
export class ConsistencyView {
  @ApiProperty({
    type: String,
    nullable: true,
    description: 'The earlier checkpoint; `null` where none of the list is over so many events: take the one you kept.',
  })
  readonly from!: string | null;

  @ApiProperty({ description: 'The later checkpoint.' })
  readonly to!: string;

  @ApiProperty({ type: [String], description: 'The consistency path of RFC 9162 section 2.1.4, in hex.' })
  readonly consistencyPath!: readonly string[];
}
