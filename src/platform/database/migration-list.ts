import { InitialSchema1764000000000 } from './migrations/1764000000000-initial-schema.js';
import { AuditAppend1764000000001 } from './migrations/1764000000001-audit-append.js';
import { TokenPath1764000000002 } from './migrations/1764000000002-token-path.js';
import { ResourceServers1764000001000 } from './migrations/1764000001000-resource-servers.js';
import { Webhooks1764000020000 } from './migrations/1764000020000-webhooks.js';
import { EvidenceCheckpoints1764000030000 } from './migrations/1764000030000-evidence-checkpoints.js';
import { AuditSearch1764000030001 } from './migrations/1764000030001-audit-search.js';
import { AuditRefusals1764000030002 } from './migrations/1764000030002-audit-refusals.js';
import { FailedAuthentications1764000040000 } from './migrations/1764000040000-failed-authentications.js';
import { TokenTiers1764000040001 } from './migrations/1764000040001-token-tiers.js';
import { Federation1764000050000 } from './migrations/1764000050000-federation.js';
import { IssueTogether1764000070000 } from './migrations/1764000070000-issue-together.js';
import { WebhookCheckpoints1764000110000 } from './migrations/1764000110000-webhook-checkpoints.js';
import { KeyRotation1764000120000 } from './migrations/1764000120000-key-rotation.js';
import { BulkRevocation1764000130000 } from './migrations/1764000130000-bulk-revocation.js';
import { CredentialsById1764000130001 } from './migrations/1764000130001-credentials-by-id.js';
import { WebhookLanesForward1764000150000 } from './migrations/1764000150000-webhook-lanes-forward.js';

/** Every migration, oldest first. A migration that has landed is never edited: the next one corrects it. */
export const MIGRATIONS = [
  InitialSchema1764000000000,
  AuditAppend1764000000001,
  TokenPath1764000000002,
  ResourceServers1764000001000,
  Webhooks1764000020000,
  EvidenceCheckpoints1764000030000,
  AuditSearch1764000030001,
  AuditRefusals1764000030002,
  FailedAuthentications1764000040000,
  TokenTiers1764000040001,
  Federation1764000050000,
  IssueTogether1764000070000,
  WebhookCheckpoints1764000110000,
  KeyRotation1764000120000,
  BulkRevocation1764000130000,
  CredentialsById1764000130001,
  WebhookLanesForward1764000150000,
];
