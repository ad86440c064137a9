-- The contract of loadtest/bench/peers/aiohttp_redis.py in Lua: cjson reads, the answer is the request's
-- own text with pieces put in between.

local cjson = require("cjson.safe")
local identity = require("identity")
local splice = require("splice")
local store = require("store")

local find, sub = string.find, string.sub
local concat, sort = table.concat, table.sort
local min = math.min

local _M = {}

local MAX_IDS = 10
local REFRESH_S = 0.5
local EPOCH_AT_S, S_PER_DAY = 1577836800, 86400

local catalog, cap_ms, tmax_share

local function follow()
    local fresh, err = store.fresh_catalog(catalog)
    if fresh then
        catalog = fresh
    elseif err then
        ngx.log(ngx.ERR, "the catalog can't be read: ", err)
    end
end

function _M.start(socket_path, cap, share)
    store.open(socket_path)
    cap_ms, tmax_share = cap, share
    ngx.timer.at(0, follow)
    ngx.timer.every(REFRESH_S, follow)
end

-- JSON's null and whatever else is no object reads as an empty one.
local EMPTY = {}
local function object(value)
    return type(value) == "table" and value or EMPTY
end

local function ids_of(bid_request, ext, is_child)
    local ids, seen = {}, {}
    local function add(id)
        if id and not seen[id] then
            seen[id] = true
            ids[#ids + 1] = id
        end
    end
    local eids = object(bid_request.user).eids
    if type(eids) ~= "table" or #eids == 0 then
        eids = object(ext.eids)
    end
    for i = 1, #eids do
        local eid = eids[i]
        local uids = object(eid.uids)
        for n = 1, #uids do
            add(identity.of_uid(eid.source or "", uids[n].id or "", uids[n].ext, is_child))
        end
    end
    local emails = object(ext.hashes).email
    if type(emails) == "string" then
        emails = { emails }
    end
    for _, email in ipairs(object(emails)) do
        add(identity.of_email_hash(email))
    end
    local device = object(bid_request.device)
    if type(device.ifa) == "string" and device.lmt ~= 1 then
        add(identity.of_ifa(device.ifa))
    end
    return ids
end

local function is_said(value)
    return type(value) == "string" and value ~= ""
end

local function forbids(us_privacy)
    return type(us_privacy) == "string"
        and (not find(us_privacy, "^1[YyNn-][YyNn-][YyNn-]$") or find(us_privacy, "^..[Yy]"))
end

-- Whether a section of GPP applies, or one may: -1 says that none does.
local function is_under_gpp(regs, ext)
    local is_named = false
    for _, said in ipairs({ regs, ext }) do
        for _, sid in ipairs(object(said.gpp_sid)) do
            is_named = true
            if sid > 0 then
                return true
            end
        end
    end
    return not is_named and (is_said(regs.gpp) or is_said(ext.gpp))
end

-- docs/field.md, "Consent", without TCF and GPP.
local function refuses(bid_request, ext_of_user)
    local regs = object(bid_request.regs)
    local ext = object(regs.ext)
    if regs.coppa == 1 or object(bid_request.device).lmt == 1 or ext.gpc == "1" then
        return true
    end
    if forbids(regs.us_privacy) or forbids(ext.us_privacy) or regs.gdpr == 1 or ext.gdpr == 1 then
        return true
    end
    if regs.gdpr ~= 0 and ext.gdpr ~= 0
        and (is_said(object(bid_request.user).consent) or is_said(ext_of_user.consent)) then
        return true
    end
    return is_under_gpp(regs, ext)
end

-- Partners in the order of their first audience, and each partner's segments; nil: opted out.
local function shown_of(found, audiences)
    local opt_outs, held = {}, {}
    local today = math.floor((ngx.time() - EPOCH_AT_S) / S_PER_DAY)
    for i = 1, #found do
        if found[i] then
            store.unpack(found[i], today, opt_outs, held)
        end
    end
    if opt_outs[0] then
        return nil
    end
    local partners, of_partner = {}, {}
    for i = 1, #held do
        local audience = audiences[held[i]]
        if audience and not opt_outs[audience.owner_id] then
            local partner = audience.partner
            local segments = of_partner[partner]
            if not segments then
                segments = {}
                of_partner[partner] = segments
                partners[#partners + 1] = partner
            end
            if not segments[audience.segment_id] then
                segments[audience.segment_id] = true
                segments[#segments + 1] = audience
            end
        end
    end
    return partners, of_partner
end

-- The JSON of those segments that are not among `came`.
local function missing(segments, came)
    local held, parts = {}, {}
    for _, segment in ipairs(object(came)) do
        held[segment.id or ""] = true
    end
    for i = 1, #segments do
        if not held[segments[i].segment_id] then
            parts[#parts + 1] = segments[i].segment
        end
    end
    return #parts > 0 and concat(parts, ",") or nil
end

-- Edits {start, end, text} that put segments into user.data.
local function inject(edits, body, p, root, bid_request, partners, of_partner)
    local _, user = splice.member(body, p, root, "user")
    local data
    if user then
        _, data = splice.member(body, p, user, "data")
    end
    local came = object(object(bid_request.user).data)
    local place = {}
    for n = #came, 1, -1 do
        place[(came[n].id or "") .. "/" .. (object(came[n].ext).segtax or "")] = n
    end
    local added = {}
    for i = 1, #partners do
        local partner = partners[i]
        local n = place[partner.taxonomy]
        local text = missing(of_partner[partner], n and came[n].segment)
        if not n then
            added[#added + 1] = partner.head .. text .. partner.tail
        elseif text then
            local item = splice.item(p, data, n)
            local _, segment, finish = splice.member(body, p, item, "segment")
            if segment then
                text = (splice.is_empty(p, segment) and "" or ",") .. text
                edits[#edits + 1] = { finish - 1, finish - 1, text }
            else
                local at = splice.after_value(p, item) - 1
                edits[#edits + 1] = { at, at, ',"segment":[' .. text .. "]" }
            end
        end
    end
    if #added == 0 then
        return
    end
    local text = concat(added, ",")
    local at
    if data then
        at = splice.after_value(p, data) - 1
        text = (splice.is_empty(p, data) and "" or ",") .. text
    elseif user then
        at = user + 1
        text = '"data":[' .. text .. (splice.is_empty(p, user) and "]" or "],")
    else
        at = root + 1
        text = '"user":{"data":[' .. text .. "]},"
    end
    edits[#edits + 1] = { at, at, text }
end

local function before(a, b)
    return a[1] < b[1]
end

local function respond(outcome, body, edits)
    local header = ngx.header
    header["X-Enrich-Outcome"] = outcome
    if #edits == 0 then
        header["Content-Length"] = #body
        return ngx.print(body)
    end
    sort(edits, before)
    local parts, at = {}, 0
    for i = 1, #edits do
        local edit = edits[i]
        parts[2 * i - 1] = sub(body, at + 1, edit[1])
        parts[2 * i] = edit[3]
        at = edit[2]
    end
    parts[#parts + 1] = sub(body, at + 1)
    local answer = concat(parts)
    header["Content-Length"] = #answer
    return ngx.print(answer)
end

-- The outcome of a request; its changes go to `edits`.
local function outcome_of(body, bid_request, recipient_audiences, edits)
    local ext = object(object(bid_request.user).ext)
    local ids = ids_of(bid_request, ext, object(bid_request.regs).coppa == 1)
    local p = splice.bytes_of(body)
    local root = find(body, "{", 1, true) - 1
    if ext.hashes ~= nil then
        local _, user = splice.member(body, p, root, "user")
        local _, at = splice.member(body, p, user, "ext")
        local key, _, finish = splice.member(body, p, at, "hashes")
        local start, stop = splice.cut(p, key, finish)
        edits[1] = { start, stop, "" }
    end
    if #ids == 0 then
        return "no_identity"
    end
    if #ids > MAX_IDS or refuses(bid_request, ext) then
        return "no_consent"
    end
    local within_ms = cap_ms
    local tmax = bid_request.tmax
    if type(tmax) == "number" and tmax > 0 then
        within_ms = min(within_ms, tmax * tmax_share)
    end
    local found, err = store.lookup(ids, within_ms)
    if not found then
        return err == "timeout" and "out_of_time" or "store_down"
    end
    local partners, of_partner = shown_of(found, recipient_audiences)
    if not partners then
        return "opted_out"
    end
    local count = #edits
    inject(edits, body, p, root, bid_request, partners, of_partner)
    return #edits > count and "enriched" or "no_match"
end

-- Answer POST /openrtb2/enrich[/{recipient}].
function _M.answer(recipient)
    if ngx.req.get_method() ~= "POST" then
        return ngx.exit(ngx.HTTP_NOT_ALLOWED)
    end
    local audiences = catalog and (recipient and catalog.recipients[recipient] or catalog.everyone)
    if catalog and recipient and not catalog.recipients[recipient] then
        return ngx.exit(ngx.HTTP_NOT_FOUND)
    end
    ngx.req.read_body()
    local body = ngx.req.get_body_data()
    local bid_request = body and cjson.decode(body)
    if type(bid_request) ~= "table" or not find(body, "^%s*{") then
        ngx.status = ngx.HTTP_BAD_REQUEST
        ngx.header["X-Enrich-Outcome"] = "malformed"
        ngx.header["Content-Length"] = 0
        return ngx.exit(ngx.HTTP_OK)
    end
    local edits = {}
    if not catalog then
        return respond("store_down", body, edits)
    end
    local outcome = outcome_of(body, bid_request, audiences, edits)
    return respond(outcome, body, edits)
end

return _M
