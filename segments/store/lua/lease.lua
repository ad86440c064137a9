-- Takes a free lease, or keeps or gives back the caller's own.
--
--   KEYS[1]   the lease: its owner's name; expires
--   ARGV[1]   the caller's name
--   ARGV[2]   ms until it expires; 0: give it back
--
-- Returns 1 if the lease is the caller's now, else 0.

local owner, ms = redis.call('GET', KEYS[1]), tonumber(ARGV[2])
if owner and owner ~= ARGV[1] then return 0 end
if ms == 0 then
    redis.call('DEL', KEYS[1])
    return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ms)
return 1
