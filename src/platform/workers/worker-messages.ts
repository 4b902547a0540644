import type { MetricObject } from 'prom-client';

/** What the primary process tells a worker. */
export type ToWorker =
  | {
      /** The database is open: begin to serve. */
      readonly kind: 'begin';
      readonly servingUrl: string;
      /** 32 bytes in base64. By message, because others can read the environment of a process. */
      readonly masterKey: string;
      /** The one before, while it is changed. */
      readonly previousMasterKey: string | null;
      /** Whether this worker makes the first operator and greets. */
      readonly first: boolean;
    }
  | { readonly kind: 'report'; readonly request: number }
  | { readonly kind: 'gathered'; readonly request: number; readonly metrics: readonly MetricObject[][] };

/** What a worker tells the primary process. */
export type ToPrimary =
  /** It listens to messages; those from before are lost. */
  | { readonly kind: 'born' }
  | { readonly kind: 'ready' }
  /** Asks for the metrics of all workers. */
  | { readonly kind: 'gather'; readonly request: number }
  | { readonly kind: 'report'; readonly request: number; readonly metrics: readonly MetricObject[] };

/** Sends to the primary process; for workers. */
export function tellPrimary(message: ToPrimary): void {
  // A primary process that has just died is noticed elsewhere.
  process.send?.(message, undefined, undefined, () => undefined);
}

/** Calls `listener` with what the primary process says; for workers. */
export function onPrimary(listener: (message: ToWorker) => void): void {
  process.on('message', (message) => listener(message as ToWorker));
}
