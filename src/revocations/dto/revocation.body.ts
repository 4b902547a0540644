import { ApiExtraModels, ApiProperty, ApiPropertyOptional, getSchemaPath } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsBoolean, IsObject, IsString, ValidateNested } from 'class-validator';
import { IsInstant, MayBeOmitted } from '../../platform/http/validators.js';

/** Which of the tokens that a selector names. */
class SelectedTime {
  @ApiPropertyOptional({
    format: 'date-time',
    description: 'Only tokens issued before this instant, which is not in the future; all so far unless given.',
  })
  readonly issuedBefore?: string;
}

/** What a credential of any kind earned; documentation only, as those below. */
export class CredentialSelector extends SelectedTime {
  @ApiProperty({ format: 'uuid', description: 'A credential of any kind, as `cred` of a token names it.' })
  readonly credentialId!: string;
}

/** What a public key of an agent earned. */
export class KeySelector extends SelectedTime {
  @ApiProperty({ format: 'uuid', description: 'The `credentialId` of a public key.' })
  readonly keyId!: string;
}

/** What the assertions of a partner earned. */
export class PartnerSelector extends SelectedTime {
  @ApiProperty({ format: 'uuid' })
  readonly partnerId!: string;
}

/** What an agent earned. */
export class AgentSelector extends SelectedTime {
  @ApiProperty({ format: 'uuid' })
  readonly agentId!: string;
}

/** What all agents of an organization earned. */
export class OrganizationSelector extends SelectedTime {
  @ApiProperty({ format: 'uuid', description: 'Only for the operator.' })
  readonly organizationId!: string;
}

const SELECTORS = [CredentialSelector, KeySelector, PartnerSelector, AgentSelector, OrganizationSelector];

/** Whose tokens: one of the ids, and perhaps an instant. Ids that are none are not found, as everywhere. */
export class RevocationSelector {
  @MayBeOmitted()
  @IsString()
  credentialId?: string;

  @MayBeOmitted()
  @IsString()
  keyId?: string;

  @MayBeOmitted()
  @IsString()
  partnerId?: string;

  @MayBeOmitted()
  @IsString()
  agentId?: string;

  @MayBeOmitted()
  @IsString()
  organizationId?: string;

  @MayBeOmitted()
  @IsInstant()
  issuedBefore?: string;
}

/** A revocation in bulk. */
@ApiExtraModels(...SELECTORS)
export class RevocationBody {
  @ApiProperty({ oneOf: SELECTORS.map((selector) => ({ $ref: getSchemaPath(selector) })) })
  @IsObject()
  @ValidateNested()
  @Type(() => RevocationSelector)
  selector!: RevocationSelector;

  @ApiPropertyOptional({ default: false, description: 'Only tell what would die.' })
  @MayBeOmitted()
  @IsBoolean()
  dryRun?: boolean;
}
