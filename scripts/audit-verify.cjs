'use strict';
/* npm run audit:verify -- FILE --jwks FILE_OR_URL: verifies evidence with no server and no database. */
const { launch } = require('./launch.cjs');

launch('src/evidence/offline/audit-verify.js');
