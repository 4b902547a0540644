-- For wrk.mjs: sends the request that the environment has, whole, and prints what came of it as JSON, last of all.
local whole = os.getenv('BENCH_REQUEST')
wrk.format = function() return whole end

function done(summary, latency)
  local failed = summary.errors
  print(string.format(
    '\n{"count":%d,"micros":%d,"failed":%d,"p50":%d,"p99":%d,"most":%d,"cpuSeconds":%f}',
    summary.requests, summary.duration, failed.connect + failed.read + failed.write + failed.status + failed.timeout,
    latency:percentile(50), latency:percentile(99), latency.max, os.clock()
  ))
end
