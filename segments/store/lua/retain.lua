-- Removes all but the named ids of one bucket from an audience: `without` of segments/model/record.py.
--
--   KEYS[1]   the bucket
--   ARGV      the fields that stay, 8 bytes each, if any; then the audience id, decimal
--
-- Returns the number of dropped memberships. Opt-outs stay.

local audience_id = tonumber(ARGV[#ARGV])
local stays = {}
if #ARGV > 1 then
    for at = 1, #ARGV[1], FIELD_BYTES do
        stays[sub(ARGV[1], at, at + FIELD_BYTES - 1)] = true
    end
end

local function planned(raw)
    local record = read_record(raw)
    if not record.members[audience_id] then return {raw = raw, dropped = 0} end
    local parts = {sub(record.raw, 1, record.opt_out_end - 1)}
    for _, held in ipairs(record.audience_ids) do
        if held ~= audience_id then parts[#parts + 1] = record.members[held] end
    end
    local kept = concat(parts)
    return {raw = kept ~= EMPTY and kept, dropped = 1}
end

local others = {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if not stays[field] then others[#others + 1] = field end
end
local dropped = 0
-- In pieces, for a crowded bucket has more fields than a call may have arguments.
for start = 1, #others, 500 do
    local packed = concat(others, '', start, math.min(start + 499, #others))
    for _, plan in ipairs(apply(KEYS[1], packed, planned)) do
        dropped = dropped + plan.dropped * plan.fields
    end
end
return dropped
