-- What wrk sends: whole HTTP requests out of a file, in turn, each after its length in decimal.
-- Prints what loadtest/bench/saturation.py reads.

local requests, turn = {}, 0

function init(args)
    local file = assert(io.open(args[1], "rb"))
    for size in file:lines() do
        requests[#requests + 1] = file:read(tonumber(size))
    end
    file:close()
end

function request()
    turn = turn % #requests + 1
    return requests[turn]
end

function done(summary)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    print(string.format("\nsaturation %d %d %d %d",
        summary.requests, summary.duration, summary.bytes, failed))
end
