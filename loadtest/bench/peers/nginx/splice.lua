-- Where things are in a JSON text that cjson has found valid, and what to put there. cjson alone
-- can't write a request as it was: 1.10 would leave as 1.1, and [] as {}.
--
-- Offsets count from 0; an end is one past the last byte.

local cjson = require("cjson.safe")
local ffi = require("ffi")

local sub = string.sub

local _M = {}

local QUOTE, ESCAPE, COMMA = 34, 92, 44
local OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT = 91, 93, 123, 125

function _M.bytes_of(text)
    return ffi.cast("const uint8_t *", text)
end

local function after_string(p, i)
    i = i + 1
    while true do
        local c = p[i]
        if c == QUOTE then
            return i + 1
        end
        i = i + (c == ESCAPE and 2 or 1)
    end
end

local function skip_space(p, i)
    while p[i] <= 32 do
        i = i + 1
    end
    return i
end

local function after_value(p, i)
    local c = p[i]
    if c == QUOTE then
        return after_string(p, i)
    elseif c ~= OPEN_OBJECT and c ~= OPEN_ARRAY then
        while c > 32 and c ~= COMMA and c ~= CLOSE_ARRAY and c ~= CLOSE_OBJECT do
            i = i + 1
            c = p[i]
        end
        return i
    end
    local depth = 0
    while true do
        if c == QUOTE then
            i = after_string(p, i)
        else
            if c == OPEN_OBJECT or c == OPEN_ARRAY then
                depth = depth + 1
            elseif c == CLOSE_OBJECT or c == CLOSE_ARRAY then
                depth = depth - 1
                if depth == 0 then
                    return i + 1
                end
            end
            i = i + 1
        end
        c = p[i]
    end
end

-- Of the object that begins at i: where the member's key begins, and its value begins and ends.
function _M.member(text, p, i, name)
    i = skip_space(p, i + 1)
    while p[i] ~= CLOSE_OBJECT do
        local key = i
        local behind = after_string(p, i)
        i = skip_space(p, skip_space(p, behind) + 1) -- the colon
        local is_it = false
        if behind - key == #name + 2 then
            is_it = sub(text, key + 2, behind - 1) == name
        end
        if not is_it and behind - key > #name + 2 and sub(text, key + 2, key + 2) == "\\" then
            is_it = cjson.decode("[" .. sub(text, key + 1, behind) .. "]")[1] == name
        end
        local finish = after_value(p, i)
        if is_it then
            return key, i, finish
        end
        i = skip_space(p, finish)
        if p[i] == COMMA then
            i = skip_space(p, i + 1)
        end
    end
    return nil
end

-- Where the n-th item (from 1) of the array that begins at i begins.
function _M.item(p, i, n)
    i = skip_space(p, i + 1)
    for _ = 2, n do
        i = skip_space(p, skip_space(p, after_value(p, i)) + 1)
    end
    return i
end

_M.after_value = after_value

-- Whether anything stands between the brackets that begin at i.
function _M.is_empty(p, i)
    local c = p[skip_space(p, i + 1)]
    return c == CLOSE_ARRAY or c == CLOSE_OBJECT
end

-- From where to where a member is cut out, with one of the commas beside it.
function _M.cut(p, key, finish)
    local before = key - 1
    while p[before] <= 32 do
        before = before - 1
    end
    if p[before] == COMMA then
        return before, finish
    end
    local behind = skip_space(p, finish)
    return key, p[behind] == COMMA and behind + 1 or finish
end

return _M
