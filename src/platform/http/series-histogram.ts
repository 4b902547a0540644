import type { Registry } from 'prom-client';

/** One line of the Prometheus text format. */
interface Sample {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** The observations under one combination of labels. */
export class Series {
  private readonly counts: number[];
  private sum = 0;
  private count = 0;

  constructor(
    private readonly labels: Readonly<Record<string, string>>,
    private readonly bounds: readonly number[],
  ) {
    this.counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.sum += value;
    this.count += 1;
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    if (bucket !== -1) this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
  }

  samples(name: string): Sample[] {
    let below = 0;
    const buckets = this.bounds.map((bound, at) => {
      below += this.counts[at] ?? 0;
      return { metricName: `${name}_bucket`, labels: { le: bound, ...this.labels }, value: below };
    });
    return [
      ...buckets,
      { metricName: `${name}_bucket`, labels: { le: '+Inf', ...this.labels }, value: this.count },
      { metricName: `${name}_sum`, labels: this.labels, value: this.sum },
      { metricName: `${name}_count`, labels: this.labels, value: this.count },
    ];
  }
}

/**
 * A histogram of which the caller keeps the series that it observes: prom-client's own copies, checks and sorts the
 * labels of each observation, which on the hot path cost more than the log line.
 */
export class SeriesHistogram {
  readonly type = 'histogram';
  readonly aggregator = 'sum';
  private readonly series: Series[] = [];

  /**
   * @param registry renders it with the others
   * @param name its full name
   * @param bounds upper bounds, ascending
   */
  constructor(
    registry: Registry,
    readonly name: string,
    readonly help: string,
    private readonly bounds: readonly number[],
  ) {
    // The registry asks its metrics for no more than their name and their samples.
    registry.registerMetric(this as unknown as Parameters<Registry['registerMetric']>[0]);
  }

  /** A new series; to be kept, one for each combination of labels. */
  with(labels: Readonly<Record<string, string>>): Series {
    const series = new Series(labels, this.bounds);
    this.series.push(series);
    return series;
  }

  async get() {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values: this.series.flatMap((one) => one.samples(name)) };
  }

  reset(): void {
    this.series.length = 0;
  }
}
