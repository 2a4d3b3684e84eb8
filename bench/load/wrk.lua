-- POST a 9-byte JSON object; with "varied" as argument every request has a header field of its own.
wrk.method = "POST"
wrk.body = '{"v": 12}'
wrk.headers["Content-Type"] = "application/json"

local count = 0
function init(args)
  if args[1] == "varied" then
    function request()
      count = count + 1
      wrk.headers["X-Request-ID"] = count
      return wrk.format()
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests": %d, "duration_s": %f, "p50_us": %d, "p99_us": %d, "p999_us": %d, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write + e.status + e.timeout))
end
