-- Records and the catalog out of the store, over pooled cosockets; see segments/store/keys.py and
-- segments/model/record.py. Debian's client library would bring nginx-extras with it; what is needed of
-- the protocol is two commands.

local bit = require("bit")
local cjson = require("cjson.safe")

local bor, band, lshift = bit.bor, bit.band, bit.lshift
local byte, format, sub = string.byte, string.format, string.sub
local floor = math.floor
local tcp = ngx.socket.tcp

local _M = {}

local POOL_SIZE, IDLE_MS = 64, 60000
local HEADER, WITH_OPT_OUTS = 0x10, 0x11
local PREFIX = "seg:1:{catalog}:"

local path, divisor

local function reply_of(sock)
    local line, err = sock:receive()
    if not line then
        return nil, err
    end
    local kind, size = byte(line), tonumber(sub(line, 2))
    if kind == 36 then -- $
        if size < 0 then
            return false
        end
        local value
        value, err = sock:receive(size + 2)
        return value and sub(value, 1, size), err
    elseif kind == 42 then -- *
        local values = {}
        for i = 1, size do
            values[i], err = reply_of(sock)
            if err then
                return nil, err
            end
        end
        return values
    end
    return nil, line
end

-- Sends commands in one write and returns as many replies; an absent value is false.
local function ask(request, count, timeout_ms)
    local sock = tcp()
    sock:settimeout(timeout_ms)
    local ok, err = sock:connect(path)
    if not ok then
        return nil, err
    end
    ok, err = sock:send(request)
    if not ok then
        return nil, err
    end
    local replies = {}
    for i = 1, count do
        replies[i], err = reply_of(sock)
        if err then
            sock:close()
            return nil, err
        end
    end
    sock:setkeepalive(IDLE_MS, POOL_SIZE)
    return replies
end

local function command(...)
    local parts = { "*", select("#", ...), "\r\n" }
    for _, part in ipairs({ ... }) do
        parts[#parts + 1] = "$" .. #part .. "\r\n" .. part .. "\r\n"
    end
    return table.concat(parts)
end

-- Packed records of ids, or nil and the error, such as "timeout".
function _M.lookup(ids, timeout_ms)
    local request = ""
    for i = 1, #ids do
        local id = ids[i]
        local a, b, c, d = byte(id, 1, 4)
        local key = format("seg:1:m:%x", floor((((a * 256 + b) * 256 + c) * 256 + d) / divisor))
        request = request .. "*3\r\n$4\r\nHGET\r\n$" .. #key .. "\r\n" .. key
            .. "\r\n$8\r\n" .. sub(id, 5, 12) .. "\r\n"
    end
    return ask(request, #ids, timeout_ms)
end

local function varint(raw, at)
    local number, shift = 0, 0
    while true do
        local c = byte(raw, at)
        at = at + 1
        number = number + band(c, 0x7F) * 2 ^ shift
        if c < 0x80 then
            return number, at
        end
        shift = shift + 7
    end
end

-- Adds what a record says to opt-outs, by account, and to audiences that hold today, in order.
function _M.unpack(raw, today, opt_outs, audiences)
    local head, at = byte(raw), 2
    if head == WITH_OPT_OUTS then
        local count, account
        count, at = varint(raw, at)
        for _ = 1, count do
            account, at = varint(raw, at + 1)
            opt_outs[account] = true
        end
    elseif head ~= HEADER then
        error("a record of another layout")
    end
    while at <= #raw do
        local audience
        audience, at = varint(raw, at)
        local low, high = byte(raw, at, at + 1)
        local expiry_day = bor(low, lshift(high, 8))
        at = at + 2
        if expiry_day == 0 or expiry_day >= today then
            audiences[#audiences + 1] = audience
        end
    end
end

local function entries_of(values)
    local entries = {}
    for i, value in ipairs(values) do
        entries[i] = assert(cjson.decode(value))
    end
    return entries
end

-- The parts of a partner's Data object before and after its segments.
local function partner_of(account)
    local head = '{"id":' .. cjson.encode(account.public_id) .. ',"name":'
        .. cjson.encode(account.name) .. ',"segment":['
    local tail, segtax = "]}", ""
    if type(account.segtax) == "number" then
        segtax = format("%d", account.segtax)
        tail = '],"ext":{"segtax":' .. segtax .. "}}"
    end
    -- A Data of another taxonomy is another's.
    return { taxonomy = account.public_id .. "/" .. segtax, head = head, tail = tail }
end

local function catalog_of(version, audience_entries, account_entries, recipient_entries)
    local accounts, partners = {}, {}
    for _, account in ipairs(account_entries) do
        if account.is_active then
            accounts[account.id] = account
        end
    end
    local everyone, recipients = {}, {}
    for _, entry in ipairs(audience_entries) do
        local account = accounts[entry.partner_id]
        if entry.is_active and account and accounts[entry.owner_id] then
            partners[account.id] = partners[account.id] or partner_of(account)
            everyone[entry.id] = {
                owner_id = entry.owner_id,
                partner = partners[account.id],
                segment_id = entry.segment_id,
                segment = '{"id":' .. cjson.encode(entry.segment_id) .. "}",
            }
        end
    end
    for _, recipient in ipairs(recipient_entries) do
        if recipient.is_active then
            local granted, shown = {}, {}
            for _, id in ipairs(recipient.partner_ids) do
                granted[partners[id] or id] = true
            end
            for id, audience in pairs(everyone) do
                if granted[audience.partner] then
                    shown[id] = audience
                end
            end
            recipients[recipient.name] = shown
        end
    end
    return { version = version, everyone = everyone, recipients = recipients }
end

-- The catalog if it is another than the one given; nil if not, or if it can't be read.
function _M.fresh_catalog(known)
    local replies, err = ask(command("GET", PREFIX .. "version"), 1, 1000)
    if not replies then
        return nil, err
    end
    local version = replies[1]
    if known and known.version == version then
        return nil
    end
    replies, err = ask(
        command("HVALS", PREFIX .. "audiences") .. command("HVALS", PREFIX .. "accounts")
            .. command("HVALS", PREFIX .. "recipients") .. command("HGET", "seg:1:meta", "bucket_bits"),
        4, 1000)
    if not replies then
        return nil, err
    end
    divisor = 2 ^ (32 - tonumber(replies[4]))
    return catalog_of(version, entries_of(replies[1]), entries_of(replies[2]), entries_of(replies[3]))
end

function _M.open(socket_path)
    path = "unix:" .. socket_path
end

return _M
