/**
 * A table that stands in a database from before a restore begins until all of it is done, so that nobody serves what is
 * half there, and the restore can be begun anew.
 */
export const UNFINISHED_RESTORE = 'unfinished_restore';

/** The database was being restored when that was interrupted. */
export class RestoreUnfinished extends Error {
  constructor() {
    super('This database was being restored from a backup when that was interrupted. Run the restore again.');
    this.name = 'RestoreUnfinished';
  }
}
