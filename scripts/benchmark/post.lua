-- Sends the bodies of a file, one a line, in turn; at the end tells as JSON what came back.
-- Arguments: the file, and the milliseconds that each client waits between two requests; without, it never waits.

local requests, last = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  if arguments[2] then
    delay = function() return tonumber(arguments[2]) end
  end
  for body in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, body)
  end
end

function request()
  last = last % #requests + 1
  return requests[last]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "microseconds": %d, "p50": %d, "p99": %d, "errors": '
      .. '{"status other than 2xx": %d, "connect": %d, "read": %d, "write": %d, "timeout": %d}}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect, e.read, e.write, e.timeout))
end
