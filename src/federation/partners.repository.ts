import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { UnitOfWork } from '../platform/database/unit-of-work.js';
import { PartnerEntity } from './partner.entity.js';

/** The unique constraint on issuers within an organization. */
export const ISSUER_KEY = 'federation_partners_issuer_key';

/** The place of a partner in the list. */
export interface PartnerPosition {
  readonly createdAt: string;
  readonly partnerId: string;
}

/** All SQL on partners, but for what comes along when a client is read. */
@Injectable()
export class PartnersRepository {
  constructor(private readonly unitOfWork: UnitOfWork) {}

  async insert(transaction: EntityManager, partner: PartnerEntity): Promise<void> {
    await transaction.insert(PartnerEntity, partner);
  }

  async update(transaction: EntityManager, partner: PartnerEntity): Promise<void> {
    const { organizationId, partnerId, ...columns } = partner;
    await transaction.update(PartnerEntity, { organizationId, partnerId }, columns);
  }

  async delete(transaction: EntityManager, { organizationId, partnerId }: PartnerEntity): Promise<void> {
    await transaction.delete(PartnerEntity, { organizationId, partnerId });
  }

  find(
    organizationId: string,
    partnerId: string,
    reader: EntityManager = this.unitOfWork.reader,
  ): Promise<PartnerEntity | null> {
    return reader.findOneBy(PartnerEntity, { organizationId, partnerId });
  }

  /** The partner of an organization with exactly this issuer. */
  findByIssuer(organizationId: string, issuer: string): Promise<PartnerEntity | null> {
    return this.unitOfWork.reader.findOneBy(PartnerEntity, { organizationId, issuer });
  }

  /** The organization of a partner, for the operator; null where there is no such partner. */
  async organizationOf(partnerId: string): Promise<string | null> {
    const partner = await this.unitOfWork.reader.findOne(PartnerEntity, {
      where: { partnerId },
      select: { organizationId: true, partnerId: true },
    });
    return partner?.organizationId ?? null;
  }

  /** Up to `limit` partners, newest first, after a position. */
  list(organizationId: string, after: PartnerPosition | undefined, limit: number): Promise<PartnerEntity[]> {
    const query = this.unitOfWork.reader
      .createQueryBuilder(PartnerEntity, 'partner')
      .where('partner.organization_id = :organizationId', { organizationId })
      .orderBy('partner.created_at', 'DESC')
      .addOrderBy('partner.partner_id', 'DESC')
      .limit(limit);
    if (after !== undefined) {
      query.andWhere('(partner.created_at, partner.partner_id) < (:createdAt, :partnerId)', after);
    }
    return query.getMany();
  }

  /** How many partners an organization has, disabled ones too. */
  count(transaction: EntityManager, organizationId: string): Promise<number> {
    return transaction.countBy(PartnerEntity, { organizationId });
  }
}
