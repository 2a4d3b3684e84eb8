-- POST the content of a file. Arguments: the file, its Content-Type, and "predict_us" if answers say how long predict took.
local threads = {}
predict_us = 0
predicts = 0

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = args[2]
  if args[3] == "predict_us" then
    function response(status, headers, body)
      local took = tonumber(body:match('"predict_us": ?(%d+)'))
      if took then
        predict_us = predict_us + took
        predicts = predicts + 1
      end
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  local us, count = 0, 0
  for _, thread in ipairs(threads) do
    us = us + thread:get("predict_us")
    count = count + thread:get("predicts")
  end
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50_us": %d, "p99_us": %d, "p999_us": %d, "lost": %d, "refused": %d, "timeouts": %d, "predict_us": %f}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write, e.status, e.timeout, count > 0 and us / count or 0))
end
