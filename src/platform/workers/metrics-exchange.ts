import { AggregatorRegistry, type MetricObject } from 'prom-client';
import { onPrimary, tellPrimary } from './worker-messages.js';

/** How long a worker waits for the metrics of the others, in milliseconds. */
const GATHER_LIMIT_MS = 2000;

/** A worker's side of the metrics of all workers: whichever is asked answers for all. */
export class MetricsExchange {
  private asked = 0;
  private readonly waiting = new Map<number, (metrics: readonly MetricObject[][]) => void>();

  /**
   * @param own the metrics of this process
   */
  constructor(private readonly own: () => Promise<MetricObject[]>) {
    onPrimary((message) => {
      if (message.kind === 'report') void this.report(message.request);
      if (message.kind === 'gathered') this.waiting.get(message.request)?.(message.metrics);
    });
  }

  /** The metrics of all workers, added up, in the Prometheus text format; its own alone where nobody answers. */
  async render(): Promise<string> {
    const request = (this.asked += 1);
    const gathered = await new Promise<readonly MetricObject[][] | null>((resolve) => {
      const limit = setTimeout(() => resolve(null), GATHER_LIMIT_MS);
      this.waiting.set(request, (metrics) => {
        clearTimeout(limit);
        resolve(metrics);
      });
      tellPrimary({ kind: 'gather', request });
    });
    this.waiting.delete(request);
    return AggregatorRegistry.aggregate([...(gathered ?? [await this.own()])]).metrics();
  }

  private async report(request: number): Promise<void> {
    tellPrimary({ kind: 'report', request, metrics: await this.own() });
  }
}
