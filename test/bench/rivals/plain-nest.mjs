// What the documentation of NestJS leads to: TypeORM's `findOne` and a transaction for each request, `JwtService` with a
// PEM. It consumes quota and writes an audit row, as ours does, but chains nothing, looks at the client's state before
// the transaction only, and has no guard, validation, log line or metric. Secrets are random, so their SHA-256 is kept
// and compared in constant time: with bcrypt this would measure bcrypt. Decorators by hand: this file is not compiled.
import 'reflect-metadata';
import { createHash, generateKeyPairSync, randomUUID, timingSafeEqual } from 'node:crypto';
import {
  Body,
  Controller,
  ForbiddenException,
  HttpCode,
  Inject,
  Module,
  Post,
  UnauthorizedException,
} from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { JwtModule, JwtService } from '@nestjs/jwt';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { getRepositoryToken, TypeOrmModule } from '@nestjs/typeorm';
import { DataSource, EntitySchema } from 'typeorm';

const { PORT, DATABASE_URL, CLIENT_ID, CLIENT_SECRET } = process.env;
const ISSUER = `http://127.0.0.1:${PORT}`;
const sha256 = (text) => createHash('sha256').update(text).digest();

const Organization = new EntitySchema({
  name: 'Organization',
  columns: {
    id: { type: 'uuid', primary: true },
    tokensUsed: { type: 'integer', default: 0 },
    tokensPerMonth: { type: 'integer' },
  },
});
const Client = new EntitySchema({
  name: 'Client',
  columns: {
    id: { type: 'uuid', primary: true },
    secretHash: { type: 'bytea' },
    scopes: { type: 'text', array: true },
    status: { type: 'text' },
  },
  relations: { organization: { type: 'many-to-one', target: 'Organization', joinColumn: true } },
});
const AuditEvent = new EntitySchema({
  name: 'AuditEvent',
  columns: {
    id: { type: 'uuid', primary: true },
    organizationId: { type: 'uuid' },
    action: { type: 'text' },
    actor: { type: 'uuid' },
    details: { type: 'jsonb' },
    occurredAt: { type: 'timestamptz', createDate: true },
  },
  indices: [{ columns: ['organizationId', 'occurredAt'] }],
});

class TokenService {
  constructor(clients, dataSource, jwt) {
    Object.assign(this, { clients, dataSource, jwt });
  }

  async issue({ client_id: id, client_secret: secret, scope }) {
    const client = await this.clients.findOne({ where: { id }, relations: { organization: true } });
    if (client?.status !== 'active' || !timingSafeEqual(client.secretHash, sha256(secret)))
      throw new UnauthorizedException('invalid_client');
    if (!scope.split(' ').every((one) => client.scopes.includes(one))) throw new ForbiddenException('invalid_scope');
    const jwtid = randomUUID();
    const { id: organizationId } = client.organization;
    await this.dataSource.transaction(async (manager) => {
      const { affected } = await manager
        .createQueryBuilder()
        .update(Organization)
        .set({ tokensUsed: () => '"tokensUsed" + 1' })
        .where('id = :organizationId AND "tokensUsed" < "tokensPerMonth"', { organizationId })
        .execute();
      if (affected === 0) throw new ForbiddenException('quota_exceeded');
      const details = { jti: jwtid, scope };
      await manager.insert(AuditEvent, {
        id: randomUUID(),
        organizationId,
        action: 'token.issued',
        actor: id,
        details,
      });
    });
    const token = await this.jwt.signAsync({ scope }, { subject: id, jwtid });
    return { access_token: token, token_type: 'Bearer', expires_in: 3600, scope };
  }
}
Inject(getRepositoryToken(Client))(TokenService, undefined, 0);
Inject(DataSource)(TokenService, undefined, 1);
Inject(JwtService)(TokenService, undefined, 2);

class TokenController {
  constructor(service) {
    this.service = service;
  }

  token(form) {
    return this.service.issue(form);
  }
}
const route = [TokenController.prototype, 'token', Object.getOwnPropertyDescriptor(TokenController.prototype, 'token')];
for (const decorate of [Post('token'), HttpCode(200)]) decorate(...route);
Body()(TokenController.prototype, 'token', 0);
Inject(TokenService)(TokenController, undefined, 0);
Controller()(TokenController);

const entities = [Organization, Client, AuditEvent];
const privateKey = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({
  type: 'pkcs8',
  format: 'pem',
});
class AppModule {}
Module({
  imports: [
    TypeOrmModule.forRoot({ type: 'postgres', url: DATABASE_URL, entities, synchronize: true }),
    TypeOrmModule.forFeature(entities),
    JwtModule.register({
      privateKey,
      signOptions: { algorithm: 'RS256', expiresIn: '1h', issuer: ISSUER, audience: ISSUER },
    }),
  ],
  controllers: [TokenController],
  providers: [TokenService],
})(AppModule);

const app = await NestFactory.create(AppModule, new FastifyAdapter(), { logger: false });
const { manager } = app.get(DataSource);
const organization = { id: randomUUID(), tokensPerMonth: 2_000_000_000 };
await manager.insert(Organization, organization);
const secretHash = sha256(CLIENT_SECRET);
await manager.insert(Client, { id: CLIENT_ID, secretHash, scopes: ['agents:read'], status: 'active', organization });
await app.listen(Number(PORT), '127.0.0.1');
console.log('listening');
