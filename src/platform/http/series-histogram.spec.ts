import { expect, it } from '@jest/globals';
import { AggregatorRegistry, Histogram, Registry } from 'prom-client';
import { SeriesHistogram } from './series-histogram.js';

const BOUNDS = [0.001, 0.01, 0.1, 1];

it('renders what the histogram of prom-client renders', async () => {
  const ours = new Registry();
  const theirs = new Registry();
  const histogram = new SeriesHistogram(ours, 'duration_seconds', 'A duration.', BOUNDS);
  const model = new Histogram({
    name: 'duration_seconds',
    help: 'A duration.',
    labelNames: ['route', 'status'],
    buckets: BOUNDS,
    registers: [theirs],
  });
  for (const labels of [
    { route: '/api/v1/token', status: '2xx' },
    { route: '/a"b\\c', status: '5xx' },
  ]) {
    const series = histogram.with(labels);
    for (const value of [0, 0.001, 0.0011, 0.5, 1, 7]) {
      series.observe(value);
      model.observe(labels, value);
    }
  }
  expect(await ours.metrics()).toBe(await theirs.metrics());
});

it('is added up over processes', async () => {
  const reports = await Promise.all(
    [1, 2].map(async (count) => {
      const registry = new Registry();
      const series = new SeriesHistogram(registry, 'duration_seconds', 'A duration.', BOUNDS).with({ status: '2xx' });
      for (let n = 0; n < count; n += 1) series.observe(0.05);
      return await registry.getMetricsAsJSON();
    }),
  );
  const text = await AggregatorRegistry.aggregate(reports).metrics();
  expect(text).toContain('duration_seconds_bucket{le="0.1",status="2xx"} 3');
  expect(text).toContain('duration_seconds_count{status="2xx"} 3');
});
