import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsString, Max, MaxLength, Min } from 'class-validator';

/** How many items a page has unless the caller says otherwise. */
const DEFAULT_PAGE_SIZE = 50;

/** The query parameters of every list. */
export class PageQuery {
  @ApiPropertyOptional({ description: 'How many items to answer with.', minimum: 1, maximum: 200, default: 50 })
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(200)
  limit: number = DEFAULT_PAGE_SIZE;

  @ApiPropertyOptional({ description: 'The `nextCursor` of the page before.' })
  @IsOptional()
  @IsString()
  @MaxLength(1024)
  cursor?: string;
}

/** One page of a list. */
export class Page<T> {
  readonly data!: readonly T[];

  @ApiProperty({ type: String, nullable: true, description: 'Where the next page begins; null on the last one.' })
  readonly nextCursor!: string | null;
}

/**
 * Cuts what a query found to one page.
 *
 * @param found up to `limit + 1` items: one more than the page has tells that there is a next page
 * @param limit the size of the page
 * @param cursorOf renders the place after an item
 */
export function pageOf<T>(found: readonly T[], limit: number, cursorOf: (last: T) => string): Page<T> {
  const data = found.slice(0, limit);
  const last = data.at(-1);
  return { data, nextCursor: found.length > limit && last !== undefined ? cursorOf(last) : null };
}
