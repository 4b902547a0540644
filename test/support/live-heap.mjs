// Loaded into a service by --import: on SIGUSR2 it collects all garbage and says how much of the heap lives, in bytes.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc');

process.on('SIGUSR2', () => {
  // What is let go by finalizers goes with the second one.
  collect();
  collect();
  console.log(`live heap: ${process.memoryUsage().heapUsed}`);
});
