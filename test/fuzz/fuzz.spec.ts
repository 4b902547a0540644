import { fuzzEveryOperation } from './operations.js';

// A few seconds; `npm run test:fuzz` sends as many as one likes.
fuzzEveryOperation(24);
