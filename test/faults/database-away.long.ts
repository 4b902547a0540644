import { describeDatabaseAway } from './database-away.js';

describeDatabaseAway(['refused', 'silent', 'stopped', 'cut', 'full', 'failover'], 3000);
