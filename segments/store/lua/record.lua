-- Reads a packed record: `unpack` of segments/model/record.py.
--
--   byte 1         high nibble: layout version (1); bit 0: opt-outs follow
--   [opt-outs]     varint count, then count x { byte action, varint account id }
--   memberships    to the end: { varint audience id, uint16 LE expiry day }
--
-- This text precedes each script that is sent to the store.
--
-- It refuses the records that `unpack` refuses, before any write: a script that mended half a
-- record could lose an opt-out. Tests compare both on records and on noise.
--
-- A membership or an opt-out is never taken apart and put together again: it is
-- compared and moved as the bytes that it is. So scripts write a single number, the
-- count of opt-outs.
-- Numbers are doubles here, exact far beyond the 32 bits of an id.

local byte, char, concat, sub = string.byte, string.char, table.concat, string.sub

local FIELD_BYTES = 8
local BUCKET_AT = 9 -- in a bucket's key, after `seg:1:m:`
local MAX_NUMBER = 4294967295
local MAX_SCALE = 128 ^ 5 -- after five digits; doubles turn into inf and nan long after
local EVERYONE = 0
local MANY_FIELDS = 20
local EMPTY = char(0x10)

local function refuse(why)
    error({err = 'CORRUPTRECORD ' .. why})
end

local function read_varint(raw, at)
    local number, scale, digit = 0, 1, nil
    repeat
        digit = byte(raw, at)
        if not digit then refuse('cut short') end
        at = at + 1
        number = number + digit % 128 * scale
        scale = scale * 128
        if number > MAX_NUMBER or scale > MAX_SCALE then refuse('number out of range') end
    until digit < 128
    -- A last byte of zero adds nothing: the number has a shorter form.
    if digit == 0 and scale > 128 then refuse('number not in its shortest form') end
    return number, at
end

local function read_opt_outs(raw, at)
    local opt_outs, account_ids, count = {}, {}, nil
    count, at = read_varint(raw, at)
    if count == 0 then refuse('opt-outs missing') end
    local last_account, last_action = -1, 0
    for n = 1, count do
        local start, action, account = at, byte(raw, at), nil
        if not action then refuse('cut short') end
        if action ~= 1 and action ~= 2 then refuse('unknown action') end
        account, at = read_varint(raw, at + 1)
        if account < last_account or (account == last_account and action <= last_action) then
            refuse('opt-outs out of order')
        end
        opt_outs[n] = {account = account, action = action, bytes = sub(raw, start, at - 1)}
        account_ids[account] = true
        last_account, last_action = account, action
    end
    return opt_outs, account_ids, at
end

-- Returns of one record
--   opt_outs      list of {account, action, bytes}
--   account_ids   set of the accounts that carried them, or nil if there are none
--   opt_out_end   where the memberships begin
--   audience_ids  list, ascending
--   members       audience id -> the bytes of its membership
local function read_record(raw)
    if not raw then
        return {opt_outs = {}, opt_out_end = 2, audience_ids = {}, members = {}, raw = EMPTY}
    end
    local head = byte(raw, 1)
    if not head then refuse('no bytes') end
    if head >= 0x20 then error({err = 'NEWERRECORD layout ' .. (head - head % 16) / 16}) end
    if head < 0x10 then refuse('layout 0') end
    if head > 0x11 then refuse('unknown flags') end

    local opt_outs, account_ids, at = {}, nil, 2
    if head == 0x11 then
        opt_outs, account_ids, at = read_opt_outs(raw, 2)
    end

    local opt_out_end = at
    local size, audience_ids, members, last = #raw, {}, {}, 0
    local n = 0
    while at <= size do
        local start, audience_id = at, byte(raw, at)
        if audience_id < 128 then
            at = at + 1
        else
            audience_id, at = read_varint(raw, at)
        end
        at = at + 2
        if audience_id <= last then refuse('memberships out of order') end
        if at > size + 1 then refuse('cut short') end
        n = n + 1
        audience_ids[n] = audience_id
        members[audience_id] = sub(raw, start, at - 1)
        last = audience_id
    end
    return {
        opt_outs = opt_outs, account_ids = account_ids, opt_out_end = opt_out_end,
        audience_ids = audience_ids, members = members, raw = raw,
    }
end

-- Returns the records of n fields, in their order; false where there is none.
--
-- A listpack is searched from its beginning: a microsecond for each field in a
-- bucket of a hundred. From some twenty fields on it is cheaper to take the whole
-- bucket (measured: 0.8 against 1.4 microseconds a field for a whole bucket). Most
-- fields stand there in the order in which they are asked for, for a writer sorts
-- them; only for the others is a table of the bucket made (measured: a tenth less).
local function read_all(key, fields, n)
    if n < MANY_FIELDS or redis.call('HLEN', key) > n * 3 then
        return redis.call('HMGET', key, unpack(fields))
    end
    local held, bucket = redis.call('HGETALL', key), nil
    local records, at = {}, 1
    for i = 1, n do
        local field = fields[i]
        if held[at] == field then
            records[i] = held[at + 1]
            at = at + 2
        else
            if not bucket then
                bucket = {}
                for j = 1, #held, 2 do
                    bucket[held[j]] = held[j + 1]
                end
            end
            records[i] = bucket[field] or false
        end
    end
    return records
end

-- Marks a bucket as changed, while there is a publication: segments/store/changed_buckets.py.
-- In a Cluster there is no such key.
local function mark_changed(key)
    if KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 then
        redis.call('SETBIT', KEYS[2], tonumber(sub(key, BUCKET_AT), 16), 1)
    end
end

-- Runs `planned` once for each distinct record among the fields, not once for
-- each field: the persons of a file mostly have one of a few histories.
--
-- `planned(raw)` takes a record's bytes, or false where there is none, and
-- returns a plan; plan.raw is the record to write, or false for no record.
-- Returns the plans; plan.fields says how many fields each one is for. Nothing is
-- written before the last record was read and found good.
local function apply(key, packed_fields, planned)
    local fields, n = {}, 0
    for at = 1, #packed_fields, FIELD_BYTES do
        n = n + 1
        fields[n] = sub(packed_fields, at, at + FIELD_BYTES - 1)
    end
    local records = read_all(key, fields, n)

    local raw_to_plan, plans = {}, {}
    local kept, dropped, k, d = {}, {}, 0, 0
    for i = 1, n do
        local raw = records[i]
        local plan = raw_to_plan[raw]
        if not plan then
            plan = planned(raw)
            plan.fields = 0
            raw_to_plan[raw] = plan
            plans[#plans + 1] = plan
        end
        plan.fields = plan.fields + 1
        if plan.raw == raw then
            -- as it should be
        elseif plan.raw then
            kept[k + 1], kept[k + 2] = fields[i], plan.raw
            k = k + 2
        else
            d = d + 1
            dropped[d] = fields[i]
        end
    end
    if k > 0 or d > 0 then mark_changed(key) end
    if k > 0 then redis.call('HSET', key, unpack(kept)) end
    if d > 0 then redis.call('HDEL', key, unpack(dropped)) end
    return plans
end
