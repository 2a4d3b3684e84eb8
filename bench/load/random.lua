-- POST random JSON to the echo model. With one connection a thread, answers would be checked here; with more, wrk does
-- not say which request an answer belongs to, so this counts answers that are not of the right form.
math.randomseed(os.time())
local counter = 0
local wrong = 0
function request()
  counter = counter + 1
  local body = string.format('{"n": %d, "r": %d, "t": "%s"}', counter, math.random(1, 1000000), string.rep("x", math.random(0, 200)))
  return wrk.format("POST", nil, {["Content-Type"] = "application/json"}, body)
end
function response(status, headers, body)
  if status ~= 200 or not string.match(body, '^{"echo":{"n":%d+,"r":%d+,"t":"x*"}}$') then
    wrong = wrong + 1
    wrk.thread:set("wrong", wrong)
  end
end
local threads = {}
function setup(thread)
  thread:set("wrong", 0)
  table.insert(threads, thread)
end
function done(summary, latency, requests)
  local e, bad = summary.errors, 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  io.write(string.format('{"requests": %d, "errors": %d, "wrong": %d}\n', summary.requests,
    e.connect + e.read + e.write + e.status + e.timeout, bad))
end
