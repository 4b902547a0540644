import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { generateKeyPairSync, sign } from 'node:crypto';
import { claimsOf, type Answer } from '../support/api.js';
import { rechain, restoreEvidence, saveEvidence, signAnew, type SignCheckpoint } from '../support/chain-forgery.js';
import { addOrganization } from '../support/organizations.js';
import { startTestApp, type TestApp } from '../support/test-app.js';

/** A forger who owns the database has a key of his own, and other organizations' evidence. */
describe('evidence that a forger has signed or moved', () => {
  let service: TestApp;
  let operator: string;
  let tenants: {
    readonly organizationId: string;
    readonly token: string;
    readonly first: number;
    readonly kept: string;
  }[];
  let forger: { readonly kid: string; readonly sign: SignCheckpoint; readonly publicJwk: JWK };

  const sql = (text: string, ...values: unknown[]) => service.database.query(text, values);
  const tenant = (index: number) => {
    const found = tenants[index];
    if (found === undefined) throw new Error('there are two tenants');
    return found;
  };
  const verify = (index = 0) => service.api.call('GET', '/audit/verify', tenant(index).token);
  const verifyKept = (checkpoint: string, index = 0) =>
    service.api.call('POST', '/audit/verify', tenant(index).token, { checkpoint });
  const faultOf = ({ status, body }: Answer) => [status, body['valid'], body['brokenAt'], body['reason']];
  const rewrite = async () => {
    const { organizationId } = tenant(0);
    await sql(
      "UPDATE audit_events SET user_agent = 'nobody' WHERE organization_id = $1 AND sequence = 3",
      organizationId,
    );
    await rechain(service.database, organizationId);
    await signAnew(service.database, organizationId, forger.sign);
  };

  beforeAll(async () => {
    service = await startTestApp();
    operator = await service.api.token(service.operator);
    tenants = [];
    for (let index = 0; index < 2; index += 1) {
      const organizationId = await addOrganization(service, operator);
      const agent = await service.api.agent(operator, { organizationId, scopes: ['audit:read'] });
      const token = await service.api.token(agent);
      const checkpoint = async () =>
        (await service.api.call('GET', '/audit/checkpoint', token)).body['checkpoint'] as string;
      const first = claimsOf(await checkpoint())['sequence'] as number;
      for (let issued = 0; issued < 4; issued += 1) await service.api.token(agent);
      tenants.push({ organizationId, token, first, kept: await checkpoint() });
    }
    const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicJwk = publicKey.export({ format: 'jwk' }) as JWK;
    const kid = await calculateJwkThumbprint(publicJwk);
    forger = {
      kid,
      publicJwk: { ...publicJwk, kid, use: 'sig', alg: 'ES256' },
      sign: (payload) => {
        const input = [{ alg: 'ES256', kid, typ: 'audit-checkpoint+jwt' }, payload]
          .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
          .join('.');
        const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' });
        return `${input}.${signature.toString('base64url')}`;
      },
    };
    await saveEvidence(service.database);
  });
  afterEach(async () => {
    await restoreEvidence(service.database);
    await sql('DELETE FROM signing_keys WHERE kid = $1', forger.kid);
  });
  afterAll(() => service.close());

  const publish = (purpose: string) =>
    sql(
      `INSERT INTO signing_keys (kid, purpose, algorithm, phase, public_jwk, sealed_private_key, created_at, retired_at)
        VALUES ($1, $2, 'ES256', 'retired', $3, '', now(), now())`,
      forger.kid,
      purpose,
      forger.publicJwk,
    );

  it('is refused under a key that nobody published', async () => {
    await rewrite();
    expect((await verify()).body).toMatchObject({ valid: false, reason: 'checkpoint_altered' });
  });

  it('is refused under a key of the JWKS that is none for checkpoints', async () => {
    await publish('access_token');
    const { body } = await service.api.send<{ keys: JWK[] }>('GET', '/.well-known/jwks.json');
    expect(body.keys).toContainEqual(expect.objectContaining({ kid: forger.kid }));
    await rewrite();
    expect((await verify()).body).toMatchObject({ valid: false, reason: 'checkpoint_altered' });
    expect(faultOf(await verifyKept(forger.sign(claimsOf(tenant(0).kept))))).toEqual([
      200,
      false,
      null,
      'checkpoint_not_authentic',
    ]);
  });

  it('is found by a checkpoint that was kept, where the forger made his key an audit key', async () => {
    await publish('audit');
    await rewrite();
    // The documented limit: whoever owns the database says which keys there are.
    expect(faultOf(await verify())).toEqual([200, true, null, undefined]);
    expect(faultOf(await verifyKept(tenant(0).kept))).toEqual([200, false, 1, 'checkpoint_mismatch']);
  });

  it('is refused as a kept checkpoint that contradicts another: of two that are signed, one is not of this log', async () => {
    await publish('audit');
    const split = forger.sign({ ...claimsOf(tenant(0).kept), rootHash: '00'.repeat(32) });
    expect(faultOf(await verifyKept(split))).toEqual([200, false, tenant(0).first + 1, 'checkpoint_mismatch']);
    expect(faultOf(await verifyKept(tenant(0).kept))).toEqual([200, true, null, undefined]);
    const future = forger.sign({ ...claimsOf(tenant(0).kept), sequence: 1000, issuedAt: '2999-01-01T00:00:00.000Z' });
    expect((await verifyKept(future)).body).toMatchObject({ valid: false, reason: 'tail_missing' });
  });

  it('is found where two organizations’ events changed places', async () => {
    const [one, other] = [tenant(0).organizationId, tenant(1).organizationId];
    await sql(
      `UPDATE audit_events SET organization_id = CASE organization_id WHEN $1::uuid THEN $2::uuid ELSE $1::uuid END,
          sequence = -sequence WHERE sequence = 3 AND organization_id IN ($1, $2)`,
      one,
      other,
    );
    await sql('UPDATE audit_events SET sequence = 3 WHERE sequence = -3');
    for (const index of [0, 1]) expect((await verify(index)).body).toMatchObject({ valid: false, brokenAt: 3 });
  });

  it('is found where two organizations’ evidence changed places, in part or whole', async () => {
    const [one, other] = [tenant(0).organizationId, tenant(1).organizationId];
    const exchange = async (table: string, column: string) => {
      const spare = '11111111-1111-4111-8111-111111111111';
      for (const [from, to] of [
        [one, spare],
        [other, one],
        [spare, other],
      ]) {
        await sql(`UPDATE ${table} SET ${column} = $2 WHERE ${column} = $1`, from, to);
      }
    };
    await exchange('audit_checkpoints', 'organization_id');
    expect((await verify()).body).toMatchObject({ valid: false, reason: 'checkpoint_altered' });
    for (const table of ['audit_events', 'audit_trees', 'audit_tree_tiles']) await exchange(table, 'organization_id');
    expect((await verify()).body).toMatchObject({ valid: false, brokenAt: 1 });
    expect((await verifyKept(tenant(1).kept)).body).toMatchObject({ reason: 'checkpoint_foreign' });
    await rechain(service.database, one);
    expect((await verify()).body).toMatchObject({ valid: false });
    expect((await verifyKept(tenant(0).kept)).body).toMatchObject({ valid: false });
  });
});
