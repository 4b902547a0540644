import { ConfigurationError, EXIT_BAD_CONFIGURATION, loadConfig } from './platform/config/load-config.js';
import type { Config } from './platform/config/config.js';
import { MasterKeyMissing } from './platform/database/embedded/master-key.js';
import { SealBroken } from './platform/kernel/sealer.js';

/**
 * The configuration of the environment. Where it is bad, says so and ends the process with exit code 78.
 */
export function loadConfigOrExit(): Config {
  try {
    return loadConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    console.error(error.message);
    process.exit(EXIT_BAD_CONFIGURATION);
  }
}

/** What a process that could not start says, in one sentence, and the code that it exits with. */
export function startFailure(error: unknown): { message: string; exitCode: number } {
  if (error instanceof SealBroken || error instanceof MasterKeyMissing) {
    return { message: error.message, exitCode: EXIT_BAD_CONFIGURATION };
  }
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE') {
    return { message: `${error.message}. Set PORT to another one.`, exitCode: 1 };
  }
  if (error instanceof Error) return { message: error.message, exitCode: 1 };
  return { message: String(error), exitCode: 1 };
}
