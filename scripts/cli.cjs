'use strict';
/* npm run cli -- <command>: installs and builds what is missing, then runs an operator command in this process. */
const { launch } = require('./launch.cjs');

launch('src/cli/main.js');
