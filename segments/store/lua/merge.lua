-- Applies changes to some ids of one bucket: `merged` of segments/model/record.py.
--
--   KEYS[1]   the bucket
--   ARGV[1]   the fields, 8 bytes each, without separators, each once
--   then, for each change, in their order:
--     audience id    decimal
--     membership     as packed bytes to add it, empty to remove it
--     forbidden by   decimal account ids, separated by spaces
--
-- Returns the tally of each change: added, renewed, removed, unchanged, refused.

local changes = {}
for i = 2, #ARGV, 3 do
    changes[#changes + 1] = {
        audience_id = tonumber(ARGV[i]),
        bytes = ARGV[i + 1] ~= '' and ARGV[i + 1] or nil,
        forbidden_by = ARGV[i + 2],
    }
end

local ADDED, RENEWED, REMOVED, UNCHANGED, REFUSED = 1, 2, 3, 4, 5

local function forbids(account_ids, change)
    if account_ids[EVERYONE] then return true end
    for account_id in string.gmatch(change.forbidden_by, '%d+') do
        if account_ids[tonumber(account_id)] then return true end
    end
    return false
end

local function planned(raw)
    local record = read_record(raw)
    local audience_ids, members = record.audience_ids, record.members
    local results, is_new_id, is_same = {}, false, true
    for i = 1, #changes do
        local change = changes[i]
        local audience_id = change.audience_id
        local held = members[audience_id]
        if not change.bytes then
            if held then
                -- Not nil: the id keeps its place in the list, should it come back.
                members[audience_id] = false
                results[i] = REMOVED
            else
                results[i] = UNCHANGED
            end
        elseif record.account_ids and forbids(record.account_ids, change) then
            results[i] = REFUSED
        elseif held == change.bytes then
            results[i] = UNCHANGED
        else
            if held == nil then
                audience_ids[#audience_ids + 1] = audience_id
                is_new_id = true
            end
            members[audience_id] = change.bytes
            results[i] = held and RENEWED or ADDED
        end
        is_same = is_same and results[i] >= UNCHANGED
    end

    local plan = {raw = raw, results = results}
    if is_same then
        if raw == EMPTY then plan.raw = false end
        return plan
    end
    if is_new_id then table.sort(audience_ids) end
    local parts, n = {sub(record.raw, 1, record.opt_out_end - 1)}, 1
    for i = 1, #audience_ids do
        local bytes = members[audience_ids[i]]
        if bytes then
            n = n + 1
            parts[n] = bytes
        end
    end
    plan.raw = concat(parts)
    if plan.raw == EMPTY then plan.raw = false end
    return plan
end

local tallies = {}
for n = 1, #changes * REFUSED do tallies[n] = 0 end
for _, plan in ipairs(apply(KEYS[1], ARGV[1], planned)) do
    for i, result in ipairs(plan.results) do
        local n = (i - 1) * REFUSED + result
        tallies[n] = tallies[n] + plan.fields
    end
end
return tallies
