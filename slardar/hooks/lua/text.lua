-- The string library as scripts have it: each call takes a limited time, and makes a string
-- of at most 1 MiB.

local core = ...

local error, type, tostring, select = error, type, tostring, select
local tonumber, unpack = tonumber, unpack
local byte, sub, raw_find, raw_match = string.byte, string.sub, string.find, string.match
local raw_gmatch, raw_gsub, raw_rep, raw_format =
    string.gmatch, string.gsub, string.rep, string.format
local raw_lower, raw_upper, raw_reverse = string.lower, string.upper, string.reverse
local concat = table.concat
local cheap, costly, matcher, capture = core.cheap, core.costly, core.matcher, core.capture
local rawpcall, py_find = pcall, core.py.find
local to_string = core.to_string

-- The most bytes of a string that a function takes or makes.
local MAX = 1048576
core.max_text = MAX

local function bad(position, name, wanted, value)
    error(
        "bad argument #" .. position .. " to '" .. name .. "' (" .. wanted .. " expected, got "
            .. (value == nil and "no value" or type(value)) .. ")",
        3
    )
end

-- Check a string argument.  A number is converted, as everywhere in Lua.
local function text(value, position, name)
    local kind = type(value)
    if kind == "number" then
        value = tostring(value)
    elseif kind ~= "string" then
        error(
            "bad argument #" .. position .. " to '" .. name .. "' (string expected, got "
                .. (value == nil and "no value" or kind) .. ")",
            3
        )
    end
    if #value > MAX then
        error(name .. ": expected a string of at most " .. MAX .. " bytes", 3)
    end
    return value
end

core.text = text

local lib = { byte = string.byte, char = string.char, len = string.len, sub = string.sub }
core.libs.string = lib

function lib.lower(s)
    return raw_lower(text(s, 1, "lower"))
end

function lib.upper(s)
    return raw_upper(text(s, 1, "upper"))
end

function lib.reverse(s)
    return raw_reverse(text(s, 1, "reverse"))
end

function lib.rep(s, n, separator)
    s = text(s, 1, "rep")
    n = tonumber(n) or bad(2, "rep", "number", n)
    local size = #s
    if separator ~= nil then
        separator = text(separator, 3, "rep")
        size = size + #separator
    end
    if n > 0 and size * n > MAX then
        error("rep: expected to make at most " .. MAX .. " bytes", 2)
    end
    if size * n > 1000 then
        costly()
    end
    return raw_rep(s, n, separator)
end

function lib.format(format, ...)
    format = text(format, 1, "format")
    local n = select("#", ...)
    local size = #format + 512 * n
    local plain = true
    for position = 1, n do
        local value = (select(position, ...))
        local kind = type(value)
        if kind == "string" then
            size = size + 4 * #value -- the most that %q makes of it
        elseif kind ~= "number" then
            plain = false
        end
    end
    if size > MAX * 4 then
        error("format: expected to make at most " .. MAX .. " bytes", 2)
    end
    -- %p would show an address.
    if
        raw_find(format, "%%[-+ #0-9.]*p")
        and raw_find((raw_gsub(format, "%%%%", "")), "%%[-+ #0-9.]*p")
    then
        error("invalid option '%p' to 'format'", 2)
    end
    if size > 10000 then
        costly()
    end
    local ok, result
    if plain then
        ok, result = rawpcall(raw_format, format, ...)
    else
        local values = { ... }
        for position = 1, n do
            local value = values[position]
            local kind = type(value)
            if kind ~= "string" and kind ~= "number" then
                values[position] = to_string(value)
            end
        end
        ok, result = rawpcall(raw_format, format, unpack(values, 1, n))
    end
    if not ok then
        error(result, 2)
    end
    return result
end

-- The place where a search begins; `init` may count from the end.
local function start(init, size)
    if init == nil then
        return 1
    end
    init = tonumber(init) or error("bad argument #3 to 'find' (number expected)", 3)
    if not (init > -0x80000000 and init < 0x80000000) then
        -- LuaJIT turns a number beyond the integers of C into a very small one.
        return 1
    end
    init = init - init % 1
    if init < 0 then
        init = size + init + 1
        return init < 1 and 1 or init
    end
    return init == 0 and 1 or init
end

local function captures(s, from, length, first, last)
    local n = length.n
    if n == 0 and first then
        return sub(s, first, last)
    elseif n == 1 then
        return capture(s, from, length, 1)
    end
    local values = {}
    for level = 1, n do
        values[level] = capture(s, from, length, level)
    end
    return unpack(values, 1, n)
end

local function slow_find(s, p, init)
    local run, from, length = matcher(p, true)
    local first, last = run(s, init)
    if not first then
        return nil
    end
    return first, last, captures(s, from, length)
end

local function slow_match(s, p, init)
    local run, from, length = matcher(p, true)
    local first, last = run(s, init)
    if not first then
        return nil
    end
    return captures(s, from, length, first, last)
end

core.slow_find, core.slow_match = slow_find, slow_match

-- Raise an error of a matcher at the line of the script if its message names no line yet.
-- Called as a tail call, so level 2 is the script.
local function placed(ok, ...)
    if not ok then
        local err = ...
        local bare = type(err) == "string" and not raw_find(err, "^[%w%._*-]+:%d+: ")
        error(err, bare and 2 or 0)
    end
    return ...
end

function lib.find(s, p, init, plain)
    s, p = text(s, 1, "find"), text(p, 2, "find")
    if plain or not raw_find(p, "[%^%$%*%+%?%.%(%[%%%-]") then
        -- The search of C compares at every place, while Python's is linear.
        if #s * #p > 1000000 then
            init = start(init, #s)
            core.ready()
            local at = py_find(s, p, init)
            if not at then
                return nil
            end
            return at, at + #p - 1
        end
        return raw_find(s, p, init, true)
    end
    if cheap(p, #s) then
        return placed(rawpcall(raw_find, s, p, init))
    end
    init = start(init, #s)
    if init > #s + 1 then
        return nil
    end
    return placed(rawpcall(slow_find, s, p, init))
end

function lib.match(s, p, init)
    s, p = text(s, 1, "match"), text(p, 2, "match")
    if cheap(p, #s) then
        return placed(rawpcall(raw_match, s, p, init))
    end
    init = start(init, #s)
    if init > #s + 1 then
        return nil
    end
    return placed(rawpcall(slow_match, s, p, init))
end

local function slow_gmatch(s, p)
    local run, from, length = matcher(p, false)
    local at = 1
    return function()
        if at > #s + 1 then
            return nil
        end
        local first, last = run(s, at)
        if not first then
            at = #s + 2
            return nil
        end
        at = last < first and first + 1 or last + 1
        return captures(s, from, length, first, last)
    end
end

core.slow_gmatch = slow_gmatch

function lib.gmatch(s, p)
    s, p = text(s, 1, "gmatch"), text(p, 2, "gmatch")
    -- gmatch knows no anchor: "^" is a character.
    local iterate
    if byte(p, 1) ~= 94 and cheap(p, #s) then
        iterate = raw_gmatch(s, p)
    else
        iterate = slow_gmatch(s, p)
    end
    return function()
        return placed(rawpcall(iterate))
    end
end

-- Make the replacement for a match from a text with %0 to %9.
local function expand(replacement, s, from, length, first, last)
    local pieces, n, i = {}, 0, 1
    while true do
        local at = raw_find(replacement, "%", i, true)
        if not at then
            break
        end
        n = n + 1
        pieces[n] = sub(replacement, i, at - 1)
        local code = byte(replacement, at + 1)
        n = n + 1
        if code and code >= 48 and code <= 57 then
            local level = code - 48
            if level == 0 or level == 1 and length.n == 0 then
                pieces[n] = sub(s, first, last)
            elseif level > length.n then
                error("invalid capture index", 0)
            else
                pieces[n] = capture(s, from, length, level)
            end
        else
            pieces[n] = code and sub(replacement, at + 1, at + 1) or "\0"
        end
        i = at + 2
    end
    pieces[n + 1] = sub(replacement, i)
    return concat(pieces)
end

local function slow_gsub(s, p, replacement, limit)
    local run, from, length, anchored = matcher(p, true)
    local kind = type(replacement)
    local pieces, n, at, done, size = {}, 0, 1, 0, 0
    local function put(piece)
        size = size + #piece
        if size > MAX then
            error("gsub: expected to make at most " .. MAX .. " bytes", 0)
        end
        n = n + 1
        pieces[n] = piece
    end
    while done < limit do
        local first, last = run(s, at)
        if not first then
            break
        end
        done = done + 1
        if first > at then
            put(sub(s, at, first - 1))
        end
        local value
        if kind == "string" then
            value = expand(replacement, s, from, length, first, last)
        elseif kind == "table" then
            local key = length.n == 0 and sub(s, first, last) or capture(s, from, length, 1)
            value = replacement[key]
        else
            value = replacement(captures(s, from, length, first, last))
        end
        if not value then
            value = sub(s, first, last)
        elseif type(value) == "number" then
            value = tostring(value)
        elseif type(value) ~= "string" then
            error("invalid replacement value (a " .. type(value) .. ")", 0)
        end
        put(value)
        if last >= first then
            at = last + 1
        elseif first <= #s then
            put(sub(s, first, first))
            at = first + 1
        else
            at = first
            break
        end
        if anchored then
            break
        end
    end
    put(sub(s, at))
    return concat(pieces), done
end

core.slow_gsub = slow_gsub

function lib.gsub(s, p, replacement, limit)
    s, p = text(s, 1, "gsub"), text(p, 2, "gsub")
    local kind = type(replacement)
    if kind == "number" then
        replacement, kind = tostring(replacement), "string"
    end
    if kind ~= "string" and kind ~= "function" and kind ~= "table" then
        error(
            "bad argument #3 to 'gsub' (string/function/table expected, got "
                .. (replacement == nil and "no value" or kind) .. ")",
            2
        )
    end
    if limit ~= nil then
        limit = tonumber(limit) or bad(4, "gsub", "number", limit)
    end
    -- A function, or the __index of a table, would run on the C stack.
    if kind == "string" and cheap(p, #s) and (#s + 1) * (#replacement + #s) < 4 * MAX then
        return placed(rawpcall(raw_gsub, s, p, replacement, limit))
    end
    return placed(rawpcall(slow_gsub, s, p, replacement, limit or #s + 1))
end

-- The methods of strings are these functions, too, and no script sees the metatable.
local strings = getmetatable("")
strings.__index = lib
strings.__metatable = false
