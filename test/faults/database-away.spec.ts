import { describeDatabaseAway } from './database-away.js';

describeDatabaseAway(['refused', 'silent'], 10_000);
