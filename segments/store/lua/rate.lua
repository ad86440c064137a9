-- Counts a request, if there is room for it: a leaky bucket.
--
--   KEYS[1]   the bucket: the unix time, in ms, at which it will be empty
--   ARGV[1]   the unix time now, in ms
--   ARGV[2]   ms after which a request is forgotten
--   ARGV[3]   ms after which a full bucket is empty
--
-- Returns the ms until there is room; 0: the request was counted. A bucket with more than it can
-- hold was written by a clock that is ahead, and is full.

local now, drop, full = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local empty_at = tonumber(redis.call('GET', KEYS[1]) or 0)
empty_at = math.min(math.max(empty_at, now), now + full) + drop
local wait = math.ceil(empty_at - now - full)
if wait > 0 then return wait end
redis.call('SET', KEYS[1], string.format('%.3f', empty_at), 'PX', math.ceil(empty_at - now))
return 0
