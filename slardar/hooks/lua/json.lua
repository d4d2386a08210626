-- cjson and cjson.safe: JSON as lua-cjson reads and writes it.
--
-- A number is written with 14 digits.  An empty table is an object.  A table whose keys are
-- integers from 1 on is an array, unless it is too sparse.  null is cjson.null (ngx.null).

local core = ...

local error, type, next, pairs, select = error, type, next, pairs, select
local tonumber = tonumber
local byte, sub, find, match, char, gsub, format =
    string.byte, string.sub, string.find, string.match, string.char, string.gsub, string.format
local concat, floor, huge = table.concat, math.floor, math.huge
local rawpcall = pcall

-- The most levels of nesting, read or written (lua-cjson's default), and bytes of a text.
local DEEP = 1000
local MAX = 1048576
-- An array may have holes if it has at most SAFE places, or if one place in RATIO is used.
local RATIO, SAFE = 2, 10

local null = core.null
local empty_array = newproxy(false)

-- Writing.

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/" }
for code = 0, 31 do
    escapes[char(code)] = format("\\u%04x", code)
end
escapes["\127"] = "\\u007f"
escapes["\b"], escapes["\f"], escapes["\n"] = "\\b", "\\f", "\\n"
escapes["\r"], escapes["\t"] = "\\r", "\\t"

local function quoted(text)
    if find(text, '[%c"\\/\127]') then
        core.costly()
        text = gsub(text, '[%c"\\/\127]', escapes)
    end
    return '"' .. text .. '"'
end

local function number(value)
    if value ~= value or value == huge or value == -huge then
        error("Cannot serialise number: must not be NaN or Infinity", 0)
    end
    return format("%.14g", value)
end

-- The number of places that a table has as an array, or nil if it is an object.
local function places(t)
    local last, used = 0, 0
    for key in next, t do
        if type(key) ~= "number" or key < 1 or key ~= floor(key) then
            return nil
        end
        used = used + 1
        if key > last then
            last = key
        end
    end
    if used == 0 then
        return nil
    end
    if last > SAFE and last > used * RATIO then
        error("Cannot serialise table: excessively sparse array", 0)
    end
    return last
end

local write

local function put(out, piece)
    local n = out.n + 1
    out[n], out.n = piece, n
    out.size = out.size + #piece
    if out.size > MAX then
        error("Cannot serialise: more than " .. MAX .. " bytes", 0)
    end
end

local function write_table(out, t, level)
    if level > DEEP then
        error("Cannot serialise, excessive depth (" .. level .. ")", 0)
    end
    local n = places(t)
    if n then
        put(out, "[")
        for index = 1, n do
            if index > 1 then
                put(out, ",")
            end
            local value = t[index]
            write(out, value == nil and null or value, level)
        end
        put(out, "]")
        return
    end
    put(out, "{")
    local first = true
    for key, value in next, t do
        local kind = type(key)
        if kind == "number" then
            key = number(key)
        elseif kind ~= "string" then
            error("Cannot serialise table: table key must be a number or string", 0)
        end
        if not first then
            put(out, ",")
        end
        first = false
        put(out, quoted(key) .. ":")
        write(out, value, level)
    end
    put(out, "}")
end

write = function(out, value, level)
    local kind = type(value)
    if kind == "string" then
        put(out, quoted(value))
    elseif kind == "number" then
        put(out, number(value))
    elseif kind == "boolean" then
        put(out, value and "true" or "false")
    elseif value == nil or value == null then
        put(out, "null")
    elseif value == empty_array then
        put(out, "[]")
    elseif kind == "table" then
        write_table(out, value, level + 1)
    else
        error("Cannot serialise " .. kind .. ": type not supported", 0)
    end
end

local function encode(value)
    local out = { n = 0, size = 0 }
    write(out, value, 0)
    return concat(out)
end

-- Reading.

local function fail(s, at, wanted)
    local found = sub(s, at, at)
    if found == "" then
        found = "T_END"
    elseif find(found, "[%a]") then
        found = "invalid token"
    else
        found = "'" .. gsub(found, "%c", "?") .. "'"
    end
    error("Expected " .. wanted .. " but found " .. found .. " at character " .. at, 0)
end

local function skip(s, at)
    local code = byte(s, at)
    while code == 32 or code == 10 or code == 13 or code == 9 do
        at = at + 1
        code = byte(s, at)
    end
    return at, code
end

local function utf8(code)
    if code < 0x80 then
        return char(code)
    elseif code < 0x800 then
        return char(0xC0 + floor(code / 64), 0x80 + code % 64)
    elseif code < 0x10000 then
        return char(0xE0 + floor(code / 4096), 0x80 + floor(code / 64) % 64, 0x80 + code % 64)
    end
    return char(
        0xF0 + floor(code / 262144),
        0x80 + floor(code / 4096) % 64,
        0x80 + floor(code / 64) % 64,
        0x80 + code % 64
    )
end

local unescapes = {
    ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

local function read_string(s, at)
    local first = at + 1
    local stop = find(s, '["\\%c]', first)
    -- Most texts have no escapes.
    if stop and byte(s, stop) == 34 then
        return sub(s, first, stop - 1), stop + 1
    end
    local pieces, n = {}, 0
    while true do
        local code = stop and byte(s, stop)
        if not code then
            fail(s, #s + 1, "end of string")
        end
        n = n + 1
        pieces[n] = sub(s, first, stop - 1)
        if code == 34 then
            return concat(pieces), stop + 1
        elseif code ~= 92 then
            if code ~= 127 then
                fail(s, stop, "a character of a string")
            end
            n = n + 1
            pieces[n] = "\127"
            first = stop + 1
        else
            local letter = sub(s, stop + 1, stop + 1)
            n = n + 1
            if letter == "u" then
                local digits = match(s, "^%x%x%x%x", stop + 2)
                if not digits then
                    fail(s, stop, "a valid unicode escape")
                end
                local point = tonumber(digits, 16)
                first = stop + 6
                if point >= 0xD800 and point < 0xE000 then
                    local low = match(s, "^\\u([dD][c-fC-F]%x%x)", first)
                    if point >= 0xDC00 or not low then
                        fail(s, stop, "a valid unicode escape")
                    end
                    point = 0x10000 + (point - 0xD800) * 1024 + tonumber(low, 16) - 0xDC00
                    first = first + 6
                end
                pieces[n] = utf8(point)
            else
                pieces[n] = unescapes[letter] or fail(s, stop, "a valid escape")
                first = stop + 2
            end
        end
        stop = find(s, '["\\%c]', first)
    end
end

local read

local function read_array(s, at, level)
    local result, n = {}, 0
    local code
    at, code = skip(s, at + 1)
    if code == 93 then
        return result, at + 1
    end
    while true do
        n = n + 1
        result[n], at = read(s, at, level)
        at, code = skip(s, at)
        if code == 93 then
            return result, at + 1
        elseif code ~= 44 then
            fail(s, at, "comma or array end")
        end
        at = at + 1
    end
end

local function read_object(s, at, level)
    local result = {}
    local code, key
    at, code = skip(s, at + 1)
    if code == 125 then
        return result, at + 1
    end
    while true do
        at, code = skip(s, at)
        if code ~= 34 then
            fail(s, at, "object key string")
        end
        key, at = read_string(s, at)
        at, code = skip(s, at)
        if code ~= 58 then
            fail(s, at, "colon")
        end
        result[key], at = read(s, at + 1, level)
        at, code = skip(s, at)
        if code == 125 then
            return result, at + 1
        elseif code ~= 44 then
            fail(s, at, "comma or object end")
        end
        at = at + 1
    end
end

read = function(s, at, level)
    local code
    at, code = skip(s, at)
    if code == 34 then
        return read_string(s, at)
    elseif code == 123 or code == 91 then
        level = level + 1
        if level > DEEP then
            error("Found too many nested data structures (" .. level .. ")", 0)
        end
        return (code == 123 and read_object or read_array)(s, at, level)
    elseif code == 116 and sub(s, at, at + 3) == "true" then
        return true, at + 4
    elseif code == 102 and sub(s, at, at + 4) == "false" then
        return false, at + 5
    elseif code == 110 and sub(s, at, at + 3) == "null" then
        return null, at + 4
    end
    local digits = match(s, "^-?%d+%.?%d*[eE]?[+-]?%d*", at)
    local value = digits and #digits < 1000 and tonumber(digits)
    if not value then
        fail(s, at, "value")
    end
    return value, at + #digits
end

local function decode(s)
    local value, at = read(s, 1, 0)
    local code
    at, code = skip(s, at)
    if code then
        fail(s, at, "the end")
    end
    return value
end

-- Parts that both libraries have.

local function settings_of(lib)
    lib.null = null
    lib._NAME, lib._VERSION = "cjson", "2.1"
    -- All scripts share the settings, so none can be changed.  Each function returns its value.
    local fixed = {
        encode_empty_table_as_object = true,
        encode_number_precision = 14,
        encode_max_depth = DEEP,
        decode_max_depth = DEEP,
        encode_keep_buffer = true,
        decode_array_with_array_mt = false,
    }
    for name, value in pairs(fixed) do
        lib[name] = function()
            return value
        end
    end
    function lib.encode_sparse_array()
        return false, RATIO, SAFE
    end
    function lib.encode_invalid_numbers()
        return false
    end
    function lib.decode_invalid_numbers()
        return false
    end
    lib.empty_array = empty_array
    return lib
end

local strict, safe = settings_of({}), settings_of({})

-- Called as a tail call, so level 2 is the script.
local function raised(ok, result)
    if not ok then
        error(result, type(result) == "string" and 2 or 0)
    end
    return result
end

function strict.encode(value)
    return raised(rawpcall(encode, value))
end

function strict.decode(s)
    return raised(rawpcall(decode, core.text(s, 1, "decode")))
end

function safe.encode(value)
    local ok, result = core.pcall(encode, value)
    if ok then
        return result
    end
    return nil, result
end

-- A value that is no text fails like a text that is no JSON.
local function decode_any(s)
    return decode(core.text(s, 1, "decode"))
end

function safe.decode(...)
    if select("#", ...) == 0 then
        error("bad argument #1 to 'decode' (expected 1 argument)", 2)
    end
    local ok, result = core.pcall(decode_any, (...))
    if ok then
        return result
    end
    return nil, result
end

local function maker(lib)
    lib.new = function()
        return core.view(lib)
    end
end
maker(strict)
maker(safe)

core.libs.cjson, core.libs["cjson.safe"] = strict, safe
core.modules.cjson = "cjson"
core.modules["cjson.safe"] = "cjson.safe"
