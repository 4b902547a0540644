import { InitialSchema1764000000000 } from './migrations/1764000000000-initial-schema.js';
import { AuditAppend1764000000001 } from './migrations/1764000000001-audit-append.js';
import { TokenPath1764000000002 } from './migrations/1764000000002-token-path.js';
import { AuditSearch1764000010001 } from './migrations/1764000010001-audit-search.js';
import { AuditRefusals1764000010002 } from './migrations/1764000010002-audit-refusals.js';
import { EvidenceCheckpoints1764000010000 } from './migrations/1764000010000-evidence-checkpoints.js';

/** Every migration, oldest first. A migration that has landed is never edited: the next one corrects it. */
export const MIGRATIONS = [
  InitialSchema1764000000000,
  AuditAppend1764000000001,
  TokenPath1764000000002,
  EvidenceCheckpoints1764000010000,
  AuditSearch1764000010001,
  AuditRefusals1764000010002,
];
