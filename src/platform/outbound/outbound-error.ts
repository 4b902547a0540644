/** Why a call did not come to an answer. */
export type OutboundFailure =
  | 'address_refused'
  | 'timeout'
  | 'connection_refused'
  | 'connection_failed'
  | 'tls_failed'
  | 'unexpected_answer'
  | 'aborted';

const DESCRIPTIONS: Readonly<Record<OutboundFailure, string>> = {
  // One text for both, so that nobody can ask us which internal names exist.
  address_refused: 'the host has no address, or one that may not be called',
  timeout: 'there was no complete answer in time',
  connection_refused: 'the connection was refused',
  connection_failed: 'the connection failed',
  tls_failed: 'the TLS handshake failed',
  unexpected_answer: 'the answer is not what was asked for',
  aborted: 'the call was given up',
};

const TLS_CODE = /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO|EPROTO)/;

/** An outgoing call failed. The message says why without naming addresses. */
export class OutboundError extends Error {
  constructor(
    readonly failure: OutboundFailure,
    detail?: string,
  ) {
    super(detail === undefined ? DESCRIPTIONS[failure] : `${DESCRIPTIONS[failure]}: ${detail}`);
    this.name = 'OutboundError';
  }
}

/** What went wrong, from an error of `node:http`. */
export function outboundErrorOf(error: unknown): OutboundError {
  if (error instanceof OutboundError) return error;
  const code = codeOf(error);
  if (code === 'ECONNREFUSED') return new OutboundError('connection_refused');
  if (code === 'ETIMEDOUT') return new OutboundError('timeout');
  if (TLS_CODE.test(code)) return new OutboundError('tls_failed');
  return new OutboundError('connection_failed');
}

function codeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null) return '';
  // Where a host has several addresses, each has its own error.
  if ('errors' in error && Array.isArray(error.errors)) return codeOf(error.errors[0]);
  if (!('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}
