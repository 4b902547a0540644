import { Injectable } from '@nestjs/common';
import { LostHistoryService, type LostAct, type LostHistory } from '../evidence/lost-history.service.js';
import { OrganizationsService } from '../organizations/organizations.service.js';

export type { LostHistory } from '../evidence/lost-history.service.js';

/** Organizations of one transaction. */
const BATCH = 100;
/** Before every other id. */
const FIRST_ID = '00000000-0000-0000-0000-000000000000';

/** A lost act, and how it is done again; null where nothing can be done, or needs to be. */
export interface NamedAct extends LostAct {
  readonly again: string | null;
}

/** What has to be done when a backup was restored that is older than the last thing that happened. */
@Injectable()
export class RecoveryService {
  constructor(
    private readonly organizations: OrganizationsService,
    private readonly lostHistory: LostHistoryService,
  ) {}

  /**
   * Ends every token from before the restore, in all organizations, and tells of it in each one's log. Calling it again
   * does so again.
   *
   * @param takenAt when the backup was taken, ISO 8601; null where that is not known
   */
  async restart(takenAt: string | null): Promise<void> {
    let after: string | null = FIRST_ID;
    while (after !== null) after = await this.organizations.restart(takenAt, after, BATCH);
  }

  /**
   * Finds in evidence from after a backup what the restored database does not know of.
   *
   * @param file an export of an audit log, copies of webhook messages (a line each), or a checkpoint
   * @param tell given each act that is lost, oldest first, but tokens that were issued and refused
   */
  lost(file: string, tell: (act: NamedAct) => void): Promise<LostHistory> {
    return this.lostHistory.read(file, (act) => tell({ ...act, again: againOf(act) }));
  }
}

/** How an act that took something away is done again. */
function againOf({ action, targetId, details }: LostAct): string | null {
  const { agentId } = details;
  const agent = `/api/v1/agents/${typeof agentId === 'string' ? agentId : targetId}`;
  switch (action) {
    case 'agent.suspended':
      return `POST /api/v1/agents/${targetId}/suspend`;
    case 'agent.decommissioned':
      return `DELETE /api/v1/agents/${targetId}`;
    case 'agent.updated':
      return `compare ${agent}: scopes may have been taken away`;
    case 'credential.revoked':
      return `DELETE ${agent}/${CREDENTIAL_PATHS[String(details['kind'])] ?? 'credentials'}/${targetId}`;
    case 'credential.rotated':
      return `POST ${agent}/credentials/${targetId}/rotate: its old secret is valid again, the new one is not`;
    case 'credential.created':
      return `make it again: ${agent}`;
    case 'organization.suspended':
      return `POST /api/v1/organizations/${targetId}/suspend`;
    case 'organization.updated':
      return `compare /api/v1/organizations/${targetId}: its limits may be the old ones`;
    case 'federation.partner_deleted':
      return `DELETE /api/v1/federation/partners/${targetId}`;
    case 'federation.partner_updated':
      return `compare /api/v1/federation/partners/${targetId}: keys that were taken away are trusted again`;
    case 'resource.deleted':
      return `DELETE /api/v1/resources/${targetId}`;
    case 'webhook.deleted':
      return `DELETE /api/v1/webhooks/${targetId}`;
    case 'webhook.secret_rotated':
      return `rotate the secret of /api/v1/webhooks/${targetId} again`;
    case 'key.revoked':
      return `POST /api/v1/keys/${targetId}/revoke`;
    default:
      // All tokens are dead already; what was made or allowed is missing, and shows when somebody asks for it.
      return action.startsWith('key.') ? 'rotate the signing keys: a key from before it signs again' : null;
  }
}

const CREDENTIAL_PATHS: Readonly<Record<string, string>> = { key: 'keys', federated: 'federated-identities' };
