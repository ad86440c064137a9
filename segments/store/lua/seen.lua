-- Sets bits of a day's filter, and its expiry.
--
--   KEYS[1]   the filter
--   ARGV[1]   offsets of bits, 4 bytes each, the highest first, without separators
--   ARGV[2]   unix time at which the filter is deleted
--
-- Writes only new bits: most ids of a day were seen before, and cost the append-only file and
-- replicas nothing.

local is_new = false
for at = 1, #ARGV[1], 4 do
    local offset = struct.unpack('>I4', ARGV[1], at)
    if redis.call('GETBIT', KEYS[1], offset) == 0 then
        redis.call('SETBIT', KEYS[1], offset, 1)
        is_new = true
    end
end
if is_new then redis.call('EXPIREAT', KEYS[1], ARGV[2]) end
