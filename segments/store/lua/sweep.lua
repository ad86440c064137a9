-- Drops from a bucket the memberships that no bid shows any more: `swept` of segments/model/record.py.
--
--   KEYS[1]   the bucket
--   ARGV[1]   today, decimal: days since 2020-01-01
--   ARGV[2]   the deleted audiences' ids, 4 bytes each, the highest first, ascending
--
-- Returns the number of dropped memberships. An unreadable record is an error, and leaves its bucket
-- as it is: the operator must look at it.

local today, deleted = tonumber(ARGV[1]), ARGV[2]

-- Audiences are deleted for good, so the list only grows; each bucket asks for a
-- few of them. Searched as the bytes that it is, for a table of it would be built
-- for every bucket anew.
local audience_is_deleted = {}
local function is_deleted(audience_id)
    local known = audience_is_deleted[audience_id]
    if known ~= nil then return known end
    local low, high, found = 0, #deleted / 4 - 1, false
    while low <= high and not found do
        local middle = math.floor((low + high) / 2)
        local a, b, c, d = byte(deleted, middle * 4 + 1, middle * 4 + 4)
        local held = ((a * 256 + b) * 256 + c) * 256 + d
        if held == audience_id then
            found = true
        elseif held < audience_id then
            low = middle + 1
        else
            high = middle - 1
        end
    end
    audience_is_deleted[audience_id] = found
    return found
end

local function planned(raw)
    local record = read_record(raw)
    local parts, dropped = {sub(record.raw, 1, record.opt_out_end - 1)}, 0
    for _, audience_id in ipairs(record.audience_ids) do
        local bytes = record.members[audience_id]
        local low, high = byte(bytes, -2, -1)
        local expiry_day = low + high * 256
        if (expiry_day == 0 or expiry_day >= today) and not is_deleted(audience_id) then
            parts[#parts + 1] = bytes
        else
            dropped = dropped + 1
        end
    end
    local kept = concat(parts)
    return {raw = kept ~= EMPTY and kept, dropped = dropped}
end

local fields = redis.call('HKEYS', KEYS[1])
local dropped = 0
-- In pieces, for a crowded bucket has more fields than a call may have arguments.
for start = 1, #fields, 500 do
    local packed = concat(fields, '', start, math.min(start + 499, #fields))
    for _, plan in ipairs(apply(KEYS[1], packed, planned)) do
        dropped = dropped + plan.dropped * plan.fields
    end
end
return dropped
