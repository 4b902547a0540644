import { ApiProperty, ApiPropertyOptional, type ApiPropertyOptions } from '@nestjs/swagger';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsIn,
  IsInt,
  IsOptional,
  IsString,
  IsUUID,
  Max,
  MaxLength,
  Min,
} from 'class-validator';
import { MayBeOmitted } from '../../platform/http/validators.js';
import { EVENT_PATTERNS, IsEventPattern } from '../event-patterns.js';
import { WEBHOOK_STATUSES, type WebhookStatus } from '../webhook.entity.js';

/** The longest overlap of two secrets: seven days, in seconds. */
const MAX_OVERLAP_SECONDS = 604_800;

const URL_DOCUMENTATION = {
  maxLength: 2048,
  example: 'https://hooks.example.com/agentidp',
  description: 'An https URL on a public address.',
};
const EVENTS_DOCUMENTATION: ApiPropertyOptions = {
  type: 'array',
  items: { type: 'string', enum: [...EVENT_PATTERNS] },
  minItems: 1,
  maxItems: 100,
  example: ['agent.*', 'token.revoked'],
  description:
    'Names of events, families of them, or `*`. `token.issued` is sent only where it is named outright. ' +
    '`audit.checkpoint` hands over the signed checkpoints of the audit log.',
};

/** A new subscription. */
export class CreateWebhookBody {
  @ApiProperty(URL_DOCUMENTATION)
  @IsString()
  @MaxLength(2048)
  url!: string;

  @ApiProperty(EVENTS_DOCUMENTATION)
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @ArrayUnique()
  @IsEventPattern()
  events!: string[];

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 1024 })
  @IsOptional()
  @IsString()
  @MaxLength(1024)
  description?: string | null;

  @ApiPropertyOptional({ enum: WEBHOOK_STATUSES, default: 'active' })
  @MayBeOmitted()
  @IsIn(WEBHOOK_STATUSES)
  status?: WebhookStatus;

  @ApiPropertyOptional({ format: 'uuid', description: 'Another organization; only for the operator.' })
  @MayBeOmitted()
  @IsUUID()
  organizationId?: string;
}

/** A change: members that are left out stay as they are. */
export class UpdateWebhookBody {
  @ApiPropertyOptional(URL_DOCUMENTATION)
  @MayBeOmitted()
  @IsString()
  @MaxLength(2048)
  url?: string;

  @ApiPropertyOptional(EVENTS_DOCUMENTATION)
  @MayBeOmitted()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(100)
  @ArrayUnique()
  @IsEventPattern()
  events?: string[];

  @ApiPropertyOptional({ type: String, nullable: true, maxLength: 1024 })
  @IsOptional()
  @IsString()
  @MaxLength(1024)
  description?: string | null;

  @ApiPropertyOptional({ enum: WEBHOOK_STATUSES, description: 'One that is made active again starts anew.' })
  @MayBeOmitted()
  @IsIn(WEBHOOK_STATUSES)
  status?: WebhookStatus;
}

/** A rotation of the signing secret. */
export class RotateSigningSecretBody {
  @ApiPropertyOptional({
    type: Number,
    minimum: 0,
    maximum: MAX_OVERLAP_SECONDS,
    default: 86_400,
    description: 'How long messages are signed with the old secret too, in seconds.',
  })
  @MayBeOmitted()
  @IsInt()
  @Min(0)
  @Max(MAX_OVERLAP_SECONDS)
  overlapSeconds?: number;
}
