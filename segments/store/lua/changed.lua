-- Marks buckets as changed, while there is a publisher: see segments/store/changed_buckets.py.
--
--   KEYS[1]   the bits of changed buckets
--   ARGV[1]   numbers of buckets, 4 bytes each, without separators

if redis.call('EXISTS', KEYS[1]) == 1 then
    for at = 1, #ARGV[1], 4 do
        redis.call('SETBIT', KEYS[1], struct.unpack('>I4', ARGV[1], at), 1)
    end
end
