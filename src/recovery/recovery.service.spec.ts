import { describe, expect, it } from '@jest/globals';
import type { LostAct, LostHistoryService } from '../evidence/lost-history.service.js';
import type { OrganizationsService } from '../organizations/organizations.service.js';
import { RecoveryService, type NamedAct } from './recovery.service.js';

const KID = 'NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs';

/** What is told of one lost act on a signing key. */
async function told(action: string): Promise<string | null> {
  const act = { action, targetType: 'key', targetId: KID, details: {} } as LostAct;
  const history = {
    read: (_file: string, tell: (lost: LostAct) => void) => Promise.resolve(tell(act)),
  } as unknown as LostHistoryService;
  const named: NamedAct[] = [];
  await new RecoveryService({} as OrganizationsService, history).lost('file', (one) => named.push(one));
  return named[0]?.again ?? null;
}

describe('what is lost of the signing keys', () => {
  it('is done again: a key that was revoked is valid again, and a rotation would leave it so', async () => {
    expect(await told('key.revoked')).toBe(`POST /api/v1/keys/${KID}/revoke`);
  });

  it('is a rotation of the present ones for the rest', async () => {
    expect(await told('key.rotated')).toContain('rotate the signing keys');
  });
});
