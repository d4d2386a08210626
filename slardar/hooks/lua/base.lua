-- Lua's standard library as scripts have it: no file, no process, no debugger, every call
-- bounded in time and memory.

local core = ...

local type, select, next, pairs, ipairs = type, select, next, pairs, ipairs
local error, rawget, rawset, unpack, tonumber = error, rawget, rawset, unpack, tonumber
local getmetatable, setmetatable, raw_tostring = getmetatable, setmetatable, tostring
local tab_concat, tab_insert, tab_remove, tab_maxn, tab_sort =
    table.concat, table.insert, table.remove, table.maxn, table.sort
local str_sub = string.sub
local costly = core.costly

local MAX_TEXT = 16384 -- the most bytes of code that loadstring takes
local MANY = 1000 -- the most elements that a function of C gets in one piece

-- Functions that raise an error, which says what hooks do not have.

local function absent(name)
    return function()
        error(name .. " is not available in slardar's hooks", 2)
    end
end

-- A library that hooks do not have: any use of it raises such an error.
local missing = {}

local function absent_library(name)
    local meta = missing[name]
    if not meta then
        meta = {
            __index = function(_, key)
                error(name .. "." .. raw_tostring(key) .. " is not available in slardar's hooks", 2)
            end,
            __newindex = absent(name),
            __call = absent(name),
            __metatable = false,
        }
        missing[name] = meta
    end
    return setmetatable({}, meta)
end

core.absent, core.absent_library = absent, absent_library

local function expect(value, wanted, position, name)
    if type(value) ~= wanted then
        error(
            "bad argument #" .. position .. " to '" .. name .. "' (" .. wanted .. " expected, got "
                .. (value == nil and "no value" or type(value)) .. ")",
            3
        )
    end
end

core.expect = expect

-- The text of a value.  It shows no address, which would tell scripts about the process.
local function to_string(value)
    local kind = type(value)
    if kind == "string" then
        return value
    end
    if kind == "table" then
        local meta = getmetatable(value)
        if type(meta) == "table" then
            local convert = rawget(meta, "__tostring")
            if convert ~= nil then
                local text = convert(value)
                if type(text) ~= "string" then
                    if type(text) ~= "number" then
                        error("'tostring' must return a string to 'print'", 2)
                    end
                    text = raw_tostring(text)
                end
                return text
            end
        end
        return core.name_of(value) or "table: 0x0"
    end
    if kind == "function" or kind == "thread" then
        return kind .. ": 0x0"
    end
    if kind == "userdata" then
        return "userdata: NULL"
    end
    return raw_tostring(value)
end

core.to_string = to_string

-- The texts for slardar's own tables, whose metatables are closed.
local texts = setmetatable({}, { __mode = "k" })

function core.name_of(value)
    return texts[value]
end

function core.set_name(value, text)
    texts[value] = text
end

local base = {
    _VERSION = _VERSION,
    assert = assert,
    error = error,
    ipairs = ipairs,
    next = next,
    pairs = pairs,
    pcall = core.pcall,
    rawequal = rawequal,
    rawget = rawget,
    rawlen = function(value)
        return #value
    end,
    rawset = rawset,
    require = core.base_require,
    select = select,
    setmetatable = setmetatable,
    tostring = to_string,
    type = type,
    unpack = unpack,
    xpcall = core.xpcall,
}
core.base = base

function base.getmetatable(value)
    if type(value) == "table" then
        return getmetatable(value)
    end
    return nil
end

function base.tonumber(value, radix)
    if type(value) == "string" and #value > 1000 then
        return nil
    end
    if radix == nil then
        return tonumber(value)
    end
    return tonumber(value, radix)
end

function base.loadstring(text, name)
    expect(text, "string", 1, "loadstring")
    if #text > MAX_TEXT then
        return nil, "loadstring: expected at most " .. MAX_TEXT .. " bytes of code"
    end
    name = type(name) == "string" and str_sub(name, 1, 60) or core.current().name
    if str_sub(name, 1, 1) == "=" or str_sub(name, 1, 1) == "@" then
        name = str_sub(name, 2)
    end
    costly()
    return core.compile_text(text, name)
end

function base.getfenv()
    return core.environment()
end

for _, name in ipairs({
    "collectgarbage", "dofile", "gcinfo", "load", "loadfile", "module", "newproxy", "setfenv",
}) do
    base[name] = absent(name)
end

-- table

local tab = {}

function tab.insert(t, ...)
    expect(t, "table", 1, "insert")
    local n = select("#", ...)
    if n == 1 then
        rawset(t, #t + 1, (...))
        return
    end
    if #t > MANY then
        costly()
    end
    return tab_insert(t, ...)
end

function tab.remove(t, ...)
    expect(t, "table", 1, "remove")
    if #t > MANY then
        costly()
    end
    return tab_remove(t, ...)
end

function tab.maxn(t)
    expect(t, "table", 1, "maxn")
    costly()
    return tab_maxn(t)
end

function tab.getn(t)
    expect(t, "table", 1, "getn")
    return #t
end

function tab.foreach(t, f)
    for key, value in next, t do
        local result = f(key, value)
        if result ~= nil then
            return result
        end
    end
end

function tab.foreachi(t, f)
    for index = 1, #t do
        local result = f(index, t[index])
        if result ~= nil then
            return result
        end
    end
end

function tab.concat(t, separator, from, to)
    expect(t, "table", 1, "concat")
    if separator == nil then
        separator = ""
    end
    from, to = from or 1, to or #t
    if type(from) ~= "number" or type(to) ~= "number" or to - from < MANY then
        return tab_concat(t, separator, from, to)
    end
    -- The work is done in pieces, so that there are looks at the budget between them.
    local pieces, n = {}, 0
    for first = from, to, MANY do
        n = n + 1
        local last = first + MANY - 1
        pieces[n] = tab_concat(t, separator, first, last < to and last or to)
    end
    return tab.concat(pieces, separator)
end

-- A merge sort.  The sort of C would run the script's comparison on the C stack, and takes
-- quadratic time for an input that is made for it.
local function less(a, b)
    return a < b
end

-- Whether C may sort the table: it does so for a few numbers, in some milliseconds at worst.
local function are_numbers(t, n)
    for index = 1, n do
        if type(t[index]) ~= "number" then
            return false
        end
    end
    return true
end

local function merge(from, to, low, middle, high, before)
    local left, right = low, middle
    if before == less then
        for index = low, high - 1 do
            if left < middle and (right >= high or not (from[right] < from[left])) then
                to[index] = from[left]
                left = left + 1
            else
                to[index] = from[right]
                right = right + 1
            end
        end
        return
    end
    for index = low, high - 1 do
        if left < middle and (right >= high or not before(from[right], from[left])) then
            to[index] = from[left]
            left = left + 1
        else
            to[index] = from[right]
            right = right + 1
        end
    end
end

function tab.sort(t, before)
    expect(t, "table", 1, "sort")
    local n = #t
    if before == nil then
        before = less
        if n <= MANY and are_numbers(t, n) then
            costly()
            return tab_sort(t)
        end
    else
        expect(before, "function", 2, "sort")
    end
    -- Sort short runs by insertion, then merge them.
    local RUN = 8
    for low = 1, n, RUN do
        local high = low + RUN - 1
        for index = low + 1, high < n and high or n do
            local value, place = t[index], index
            while place > low and before(value, t[place - 1]) do
                t[place] = t[place - 1]
                place = place - 1
            end
            t[place] = value
        end
    end
    if n <= RUN then
        return
    end
    local from, to, width = t, {}, RUN
    while width < n do
        for low = 1, n, 2 * width do
            local middle = low + width < n + 1 and low + width or n + 1
            local high = low + 2 * width < n + 1 and low + 2 * width or n + 1
            merge(from, to, low, middle, high, before)
        end
        from, to, width = to, from, 2 * width
    end
    if from ~= t then
        for index = 1, n do
            t[index] = from[index]
        end
    end
end

-- The additions of LuaJIT that scripts for ngx_lua require.
local function clear(t)
    expect(t, "table", 1, "clear")
    for key in next, t do
        rawset(t, key, nil)
    end
end

local function new_table()
    return {}
end

-- math.  All scripts share the state of random numbers, so no script may set it.

local mathematics = {}
for name, value in pairs(math) do
    mathematics[name] = value
end
math.randomseed(core.py.seed())
function mathematics.randomseed() end

-- os, with its functions for times only.

local os_date, os_time = os.date, os.time
local system = { clock = os.clock, difftime = os.difftime }

function system.date(format, moment)
    if format ~= nil then
        expect(format, "string", 1, "date")
        if #format > 256 then
            error("bad argument #1 to 'date' (expected at most 256 bytes)", 2)
        end
    end
    if moment ~= nil and type(moment) ~= "number" then
        moment = tonumber(moment)
        expect(moment, "number", 2, "date")
    end
    local result = os_date(format or "%c", moment)
    return result
end

function system.time(t)
    if t == nil then
        return os_time()
    end
    expect(t, "table", 1, "time")
    local plain = {}
    for _, name in ipairs({ "year", "month", "day", "hour", "min", "sec", "isdst" }) do
        local value = rawget(t, name)
        plain[name] = type(value) == "boolean" and value or tonumber(value)
    end
    return os_time(plain)
end

setmetatable(system, {
    __index = function(_, key)
        error("os." .. raw_tostring(key) .. " is not available in slardar's hooks", 2)
    end,
})

local routines = {
    create = coroutine.create,
    resume = core.resume,
    running = coroutine.running,
    status = coroutine.status,
    wrap = core.wrap,
    yield = coroutine.yield,
}

local debugger = setmetatable({
    traceback = function(message)
        return message
    end,
}, {
    __index = function(_, key)
        error("debug." .. raw_tostring(key) .. " is not available in slardar's hooks", 2)
    end,
})

local bits = {}
for name, value in pairs(require("bit")) do
    bits[name] = value
end

core.libs = {
    bit = bits,
    coroutine = routines,
    debug = debugger,
    math = mathematics,
    os = system,
    table = tab,
}

-- Functions that make a library for one script, where a view of a shared one is not enough.
-- There is no ffi, io, jit and package: a script that looks for one of them finds nil.
core.makers = {}

-- What `require` returns, by name.  A text is the name of a global.
core.modules = {
    bit = "bit",
    coroutine = "coroutine",
    math = "math",
    os = "os",
    string = "string",
    table = "table",
    ["table.clear"] = clear,
    ["table.new"] = new_table,
}
