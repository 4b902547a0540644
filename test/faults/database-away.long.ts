import { describeDatabaseAway } from './database-away.js';

describeDatabaseAway(['stopped', 'cut', 'failover']);
