import { describeDatabaseAway } from './database-away.js';

describeDatabaseAway(['refused', 'silent', 'stopped', 'cut', 'failover'], 3000);
