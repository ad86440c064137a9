-- Records an opt-out of some ids of one bucket: `opted_out` of segments/model/record.py.
--
--   KEYS[1]   the bucket
--   ARGV[1]   the fields, 8 bytes each, without separators, each once
--   ARGV[2]   account id, decimal
--   ARGV[3]   action, decimal
--   ARGV[4]   the opt-out as packed bytes
--   ARGV[5]   memberships to delete: 'none', 'all', or decimal audience ids, separated by spaces
--
-- Unknown ids are recorded, too: the tombstone must precede the file that would bring the person
-- back.

local new = {account = tonumber(ARGV[2]), action = tonumber(ARGV[3]), bytes = ARGV[4]}

local erases_none, erases_all, erased = ARGV[5] == 'none', ARGV[5] == 'all', {}
if not (erases_none or erases_all) then
    for audience_id in string.gmatch(ARGV[5], '%d+') do
        erased[tonumber(audience_id)] = true
    end
end

local function write_varint(number)
    local digits = {}
    while number > 127 do
        digits[#digits + 1] = char(number % 128 + 128)
        number = math.floor(number / 128)
    end
    digits[#digits + 1] = char(number)
    return concat(digits)
end

local function precedes(a, b)
    return a.account < b.account or (a.account == b.account and a.action < b.action)
end

local function planned(raw)
    local record = read_record(raw)
    local opt_outs = record.opt_outs

    local place = 1
    while opt_outs[place] and precedes(opt_outs[place], new) do
        place = place + 1
    end
    if not opt_outs[place] or precedes(new, opt_outs[place]) then
        table.insert(opt_outs, place, new)
    end

    local parts = {char(0x11), write_varint(#opt_outs)}
    for _, opt_out in ipairs(opt_outs) do
        parts[#parts + 1] = opt_out.bytes
    end
    if erases_none then
        parts[#parts + 1] = sub(record.raw, record.opt_out_end)
    elseif not erases_all then
        for _, audience_id in ipairs(record.audience_ids) do
            if not erased[audience_id] then
                parts[#parts + 1] = record.members[audience_id]
            end
        end
    end
    return {raw = concat(parts)}
end

apply(KEYS[1], ARGV[1], planned)
return redis.status_reply('OK')
