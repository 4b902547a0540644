import { ApiProperty } from '@nestjs/swagger';
import { Page } from '../../platform/http/page.js';
import { removableFrom, usableFrom } from '../key-life.js';
import { KEY_PURPOSES, SIGNING_KEY_PHASES, type SigningKeyEntity } from '../signing-key.entity.js';

/** A signing key as the operator sees it: nothing of its private half. */
export class SigningKeyView {
  @ApiProperty({ description: 'The thumbprint of the key (RFC 7638), as in the JWKS and in the header of tokens.' })
  readonly kid!: string;

  @ApiProperty({ enum: KEY_PURPOSES, description: 'What it signs: access tokens, or checkpoints of audit logs.' })
  readonly purpose!: string;

  @ApiProperty({ enum: ['RS256', 'PS256', 'ES256', 'EdDSA'] })
  readonly algorithm!: string;

  @ApiProperty({ enum: SIGNING_KEY_PHASES })
  readonly phase!: string;

  @ApiProperty({ format: 'date-time' })
  readonly createdAt!: string;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'From when on the next key can sign: everybody who keeps the JWKS has it then. Null for the others.',
  })
  readonly usableFrom!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'Since when it has signed.' })
  readonly activatedAt!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true, description: 'Since when it signs no more.' })
  readonly retiredAt!: string | null;

  @ApiProperty({ type: String, format: 'date-time', nullable: true })
  readonly revokedAt!: string | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'When a retired key leaves the JWKS, or a revoked one this list. Keys of checkpoints stay: null.',
  })
  readonly removedFrom!: string | null;

  /** What callers may see of a key. */
  static of(key: SigningKeyEntity): SigningKeyView {
    const shown = (instant: Date | null): string | null => instant?.toISOString() ?? null;
    return {
      kid: key.kid,
      purpose: key.purpose,
      algorithm: key.algorithm,
      phase: key.phase,
      createdAt: key.createdAt.toISOString(),
      usableFrom: shown(key.phase === 'next' ? usableFrom(key) : null),
      activatedAt: shown(key.activatedAt),
      retiredAt: shown(key.retiredAt),
      revokedAt: shown(key.revokedAt),
      removedFrom: shown(removableFrom(key)),
    };
  }
}

/** A page of signing keys. */
export class SigningKeyPage extends Page<SigningKeyView> {
  @ApiProperty({ type: [SigningKeyView] })
  declare readonly data: readonly SigningKeyView[];

  /** What callers may see of a page. */
  static ofKeys({ data, nextCursor }: Page<SigningKeyEntity>): SigningKeyPage {
    return { data: data.map((key) => SigningKeyView.of(key)), nextCursor };
  }
}
