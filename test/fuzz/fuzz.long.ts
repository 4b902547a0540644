import { fuzzEveryOperation } from './operations.js';

fuzzEveryOperation(1000);
