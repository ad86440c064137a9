-- Counts the ids of one bucket that the store knows, and those that may be used. Writes nothing.
--
--   KEYS[1]   the bucket
--   ARGV[1]   the fields, 8 bytes each, without separators, each once
--   ARGV[2]   the accounts whose opt-outs forbid it, decimal, separated by spaces
--
-- Returns the counts: asked for, known, usable.

local forbidding = {[EVERYONE] = true}
for account_id in string.gmatch(ARGV[2], '%d+') do
    forbidding[tonumber(account_id)] = true
end

local function planned(raw)
    local plan = {raw = raw, known = 0, usable = 0}
    if not raw or raw == EMPTY then return plan end
    plan.known, plan.usable = 1, 1
    for account_id in pairs(read_record(raw).account_ids or {}) do
        if forbidding[account_id] then plan.usable = 0 end
    end
    return plan
end

local asked, known, usable = 0, 0, 0
for _, plan in ipairs(apply(KEYS[1], ARGV[1], planned)) do
    asked = asked + plan.fields
    known = known + plan.known * plan.fields
    usable = usable + plan.usable * plan.fields
end
return {asked, known, usable}
