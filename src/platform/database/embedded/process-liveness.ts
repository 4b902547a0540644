import { hasCode } from './error-code.js';

/** Whether a process of this number exists, be it a zombie or another user's. */
export function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !hasCode(error, 'ESRCH');
  }
}
