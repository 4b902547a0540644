'use strict';
/* npm start: installs and builds what is missing, then runs the service in this process. */
const { launch } = require('./launch.cjs');

launch('src/main.js');
