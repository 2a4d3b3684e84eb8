-- POST the content of a file. Arguments: the file, its Content-Type, and any of these words:
-- "timed": answers say how long predict took and since when none had run (`timed` in work.py); "varied": every request has a field of its own; "many": 20 fields such
-- as a browser or SDK and the proxy before it send, instead of wrk's Host, Content-Type and Content-Length.
local threads = {}
predict_us = 0
between_us = 0
predicts = -1  -- the first does not count: before it nothing was asked

function setup(thread)
  table.insert(threads, thread)
end

local function add_many()
  local h = wrk.headers
  h["Accept"] = "application/json"
  h["Accept-Encoding"] = "gzip, deflate"
  h["Accept-Language"] = "en-GB,en;q=0.9"
  h["Authorization"] = "Bearer sk-0123456789abcdef0123456789abcdef0123456789abcdef"
  h["Cache-Control"] = "no-cache"
  h["Connection"] = "keep-alive"
  h["Forwarded"] = "for=203.0.113.7;proto=https"
  h["Origin"] = "https://app.example.com"
  h["User-Agent"] = "OpenAI/Python 1.109.1"
  h["X-Forwarded-For"] = "203.0.113.7, 198.51.100.2"
  h["X-Forwarded-Host"] = "api.example.com"
  h["X-Forwarded-Port"] = "443"
  h["X-Forwarded-Proto"] = "https"
  h["X-Real-IP"] = "203.0.113.7"
  h["X-Stainless-Lang"] = "python"
  h["X-Stainless-Retry-Count"] = "0"
  h["X-Stainless-Runtime"] = "CPython"
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  wrk.method = "POST"
  wrk.body = file:read("*a")
  file:close()
  wrk.headers["Content-Type"] = args[2]
  local is = {}
  for _, word in ipairs(args) do is[word] = true end
  if is.many then add_many() end
  if is.varied then
    local count = 0
    function request()
      count = count + 1
      wrk.headers["Traceparent"] = string.format("00-%032x-00f067aa0ba902b7-01", count)
      return wrk.format()
    end
  end
  if is.timed then
    function response(status, headers, body)
      local took = tonumber(body:match('"predict_us": ?(%d+)'))
      if took then
        predicts = predicts + 1
        if predicts > 0 then
          predict_us = predict_us + took
          between_us = between_us + tonumber(body:match('"between_us": ?(%d+)'))
        end
      end
    end
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  local predict, between, count = 0, 0, 0
  for _, thread in ipairs(threads) do
    predict = predict + thread:get("predict_us")
    between = between + thread:get("between_us")
    count = count + math.max(thread:get("predicts"), 0)
  end
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "p50_us": %d, "p99_us": %d, "p999_us": %d, "lost": %d, "refused": %d, "timeouts": %d, "predict_us": %f, "between_us": %f}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    e.connect + e.read + e.write, e.status, e.timeout, count > 0 and predict / count or 0, count > 0 and between / count or 0))
end
