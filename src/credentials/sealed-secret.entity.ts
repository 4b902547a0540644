import { Column, Entity, PrimaryColumn } from 'typeorm';

/** A secret of the installation, sealed under the master key. */
@Entity({ name: 'sealed_secrets' })
export class SealedSecretEntity {
  @PrimaryColumn({ type: 'text' })
  name!: string;

  @Column({ type: 'bytea' })
  sealed!: Buffer;

  @Column({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
