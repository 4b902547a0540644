import { monitorEventLoopDelay, performance, PerformanceObserver, constants } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';

const EVENT_LOOP_RESOLUTION_MS = 20;

const GC_KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: 'major',
  [constants.NODE_PERFORMANCE_GC_MINOR]: 'minor',
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: 'incremental',
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: 'weakcb',
};

/**
 * Measures the process: CPU, memory, event loop, garbage collection. Under the names of prom-client's default metrics,
 * which cannot be used themselves: once started, their event-loop timer and GC observer never stop.
 *
 * @param registry where the metrics are registered
 * @param prefix what their names begin with
 * @returns stops the measuring
 */
export function measureRuntime(registry: Registry, prefix: string): () => void {
  const registers = [registry];
  measureProcess(registers, prefix);
  const eventLoop = measureEventLoop(registers, prefix);
  const garbageCollection = observeGarbageCollection(registers, prefix);
  return () => {
    eventLoop.disable();
    garbageCollection.disconnect();
  };
}

function measureProcess(registers: Registry[], prefix: string): void {
  const startedAt = new Gauge({
    name: `${prefix}process_start_time_seconds`,
    help: 'Start time of the process since unix epoch in seconds.',
    aggregator: 'min',
    registers,
  });
  startedAt.set(Math.round(performance.timeOrigin / 1000));
  let counted = 0;
  new Counter({
    name: `${prefix}process_cpu_seconds_total`,
    help: 'Total user and system CPU time spent in seconds.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      const seconds = (user + system) / 1e6;
      this.inc(seconds - counted);
      counted = seconds;
    },
  });
  // Registered before those that it sets, because a collection goes in the order of registration.
  new Gauge({
    name: `${prefix}nodejs_heap_size_used_bytes`,
    help: 'Process heap size used from Node.js in bytes.',
    registers,
    collect() {
      const memory = process.memoryUsage();
      this.set(memory.heapUsed);
      heapTotal.set(memory.heapTotal);
      resident.set(memory.rss);
      external.set(memory.external);
    },
  });
  const resident = gauge('process_resident_memory_bytes', 'Resident memory size in bytes.');
  const heapTotal = gauge('nodejs_heap_size_total_bytes', 'Process heap size from Node.js in bytes.');
  const external = gauge('nodejs_external_memory_bytes', 'Node.js external memory size in bytes.');

  function gauge(name: string, help: string): Gauge {
    return new Gauge({ name: prefix + name, help, registers });
  }
}

function measureEventLoop(registers: Registry[], prefix: string): { disable(): boolean } {
  const delay = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
  delay.enable();
  let seen = performance.eventLoopUtilization();
  new Gauge({
    name: `${prefix}nodejs_eventloop_utilization`,
    help: 'Share of the time since the last collection in which the event loop was busy, 0 to 1.',
    aggregator: 'average',
    registers,
    collect() {
      const now = performance.eventLoopUtilization();
      this.set(performance.eventLoopUtilization(now, seen).utilization);
      seen = now;
    },
  });
  new Gauge({
    name: `${prefix}nodejs_eventloop_lag_max_seconds`,
    help: 'The maximum recorded event loop delay.',
    aggregator: 'max',
    registers,
    collect() {
      if (delay.count === 0) return;
      this.set(delay.max / 1e9);
      mean.set(delay.mean / 1e9);
      p50.set(delay.percentile(50) / 1e9);
      p99.set(delay.percentile(99) / 1e9);
      delay.reset();
    },
  });
  const mean = gauge('mean', 'The mean of the recorded event loop delays.');
  const p50 = gauge('p50', 'The 50th percentile of the recorded event loop delays.');
  const p99 = gauge('p99', 'The 99th percentile of the recorded event loop delays.');
  return delay;

  function gauge(name: string, help: string): Gauge {
    return new Gauge({ name: `${prefix}nodejs_eventloop_lag_${name}_seconds`, help, aggregator: 'max', registers });
  }
}

function observeGarbageCollection(registers: Registry[], prefix: string): PerformanceObserver {
  const seconds = new Histogram({
    name: `${prefix}nodejs_gc_duration_seconds`,
    help: 'Garbage collection duration by kind, one of major, minor, incremental or weakcb.',
    labelNames: ['kind'] as const,
    buckets: [0.001, 0.01, 0.1, 1],
    registers,
  });
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { detail, duration } = entry as typeof entry & { detail?: { kind?: number } };
      const kind = detail?.kind;
      seconds.observe({ kind: (kind === undefined ? undefined : GC_KINDS[kind]) ?? 'other' }, duration / 1000);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  return observer;
}
