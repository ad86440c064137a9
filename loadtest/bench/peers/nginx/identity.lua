-- An identifier becomes 16 bytes, as segments/model/identity.py says. nginx has no BLAKE2b to lend, so it
-- is here, in the 64-bit integers of LuaJIT; hashes of e-mail addresses, the common case, need none.

local bit = require("bit")
local ffi = require("ffi")

local bxor, ror = bit.bxor, bit.ror
local find, lower, sub = string.find, string.lower, string.sub

local _M = {}

local MAX_TEXT_CHARS = 256
local NO_DEVICE = "00000000-0000-0000-0000-000000000000"
local UUID = "^" .. ("%x"):rep(8) .. ("%-%x%x%x%x"):rep(3) .. "%-" .. ("%x"):rep(12) .. "$"
local STYPES = { hemsha256 = true, hemmd5 = true, hemsha1 = true }

local NO_DIGIT = 255
local digit_of = ffi.new("uint8_t[256]")
ffi.fill(digit_of, 256, NO_DIGIT)
for value = 0, 15 do
    local digit = string.format("%x", value)
    digit_of[digit:byte()] = value
    digit_of[digit:upper():byte()] = value
end

local IV = ffi.new("uint64_t[8]", {
    0x6a09e667f3bcc908ULL, 0xbb67ae8584caa73bULL, 0x3c6ef372fe94f82bULL, 0xa54ff53a5f1d36f1ULL,
    0x510e527fade682d1ULL, 0x9b05688c2b3e6c1fULL, 0x1f83d9abfb41bd6bULL, 0x5be0cd19137e2179ULL,
})
local SIGMA = {
    { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 },
    { 14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3 },
    { 11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4 },
    { 7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8 },
    { 9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13 },
    { 2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9 },
    { 12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11 },
    { 13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10 },
    { 6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5 },
    { 10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0 },
}
local BLOCK_BYTES = 128

local function mix(v, a, b, c, d, x, y)
    v[a] = v[a] + v[b] + x
    v[d] = ror(bxor(v[d], v[a]), 32)
    v[c] = v[c] + v[d]
    v[b] = ror(bxor(v[b], v[c]), 24)
    v[a] = v[a] + v[b] + y
    v[d] = ror(bxor(v[d], v[a]), 16)
    v[c] = v[c] + v[d]
    v[b] = ror(bxor(v[b], v[c]), 63)
end

local function compress(h, m, done, is_last)
    local v = ffi.new("uint64_t[16]")
    for i = 0, 7 do
        v[i], v[i + 8] = h[i], IV[i]
    end
    v[12] = bxor(v[12], done + 0ULL)
    if is_last then
        v[14] = bxor(v[14], 0xffffffffffffffffULL)
    end
    for round = 0, 11 do
        local s = SIGMA[round % 10 + 1]
        mix(v, 0, 4, 8, 12, m[s[1]], m[s[2]])
        mix(v, 1, 5, 9, 13, m[s[3]], m[s[4]])
        mix(v, 2, 6, 10, 14, m[s[5]], m[s[6]])
        mix(v, 3, 7, 11, 15, m[s[7]], m[s[8]])
        mix(v, 0, 5, 10, 15, m[s[9]], m[s[10]])
        mix(v, 1, 6, 11, 12, m[s[11]], m[s[12]])
        mix(v, 2, 7, 8, 13, m[s[13]], m[s[14]])
        mix(v, 3, 4, 9, 14, m[s[15]], m[s[16]])
    end
    for i = 0, 7 do
        h[i] = bxor(h[i], v[i], v[i + 8])
    end
end

-- BLAKE2b-128 of a text that is not empty (RFC 7693).
local function blake2b(text)
    local h = ffi.new("uint64_t[8]", IV)
    h[0] = bxor(h[0], 0x01010010ULL)
    local m = ffi.new("uint64_t[16]")
    for start = 0, #text - 1, BLOCK_BYTES do
        local part = sub(text, start + 1, start + BLOCK_BYTES)
        ffi.fill(m, BLOCK_BYTES)
        ffi.copy(m, part, #part)
        compress(h, m, start + #part, start + BLOCK_BYTES >= #text)
    end
    return ffi.string(h, 16)
end

local function is_text(text)
    if text == "" then
        return false
    end
    -- Characters, not bytes: all but the continuation bytes of UTF-8.
    return #text <= MAX_TEXT_CHARS or select(2, text:gsub("[^\128-\191]", "")) <= MAX_TEXT_CHARS
end

local raw = ffi.new("uint8_t[16]")

function _M.of_email_hash(text)
    local size = #text
    if size ~= 64 and size ~= 32 and size ~= 40 then
        return nil
    end
    local digits = ffi.cast("const uint8_t *", text)
    for i = 0, 15 do
        local high, low = digit_of[digits[2 * i]], digit_of[digits[2 * i + 1]]
        if high == NO_DIGIT or low == NO_DIGIT then
            return nil
        end
        raw[i] = high * 16 + low
    end
    for i = 32, size - 1 do
        if digit_of[digits[i]] == NO_DIGIT then
            return nil
        end
    end
    return ffi.string(raw, 16)
end

function _M.of_ifa(text)
    text = lower(text)
    return text ~= NO_DEVICE and find(text, UUID) and blake2b("ifa:" .. text) or nil
end

local function of_eid(source, uid)
    if find(source, ":", 1, true) or not is_text(source) or not is_text(uid) then
        return nil
    end
    return blake2b("eid:" .. source .. ":" .. uid)
end

-- The id of one uid, nil if it is none that we look up.
function _M.of_uid(source, uid, ext, is_child)
    source = lower(source)
    if source == "liveintent.com" then
        return _M.of_email_hash(uid) or of_eid(source, uid)
    elseif source == "fpid.liveintent.com" then
        return not is_child and is_text(uid) and blake2b("duid:" .. uid) or nil
    elseif type(ext) ~= "table" then
        return nil
    elseif STYPES[ext.stype] then
        return _M.of_email_hash(uid)
    elseif ext.provider == "liveintent.com" then
        return of_eid(source, uid)
    end
    return nil
end

return _M
