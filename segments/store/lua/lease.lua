-- Takes, keeps or gives back a lease, by whoever has it or if nobody does.
--
--   KEYS[1]   the lease: its owner's name; gone when it ran out
--   ARGV[1]   the name of whoever asks
--   ARGV[2]   for how many ms it is asked for; 0: it is given back
--
-- Returns 1 if the lease is theirs now, and otherwise 0.

local owner, ms = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if owner and owner ~= ARGV[1] then return 0 end
if ms == 0 then
    redis.call('DEL', KEYS[1])
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ms)
return 1
