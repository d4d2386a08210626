-- Digests, encodings, queries and times: the functions of ngx that need no request.

local core = ...

local error, type, select, next, ipairs, tonumber = error, type, select, next, ipairs, tonumber
local find, sub, concat = string.find, string.sub, table.concat
local py, ready, costly, text, expect = core.py, core.ready, core.costly, core.text, core.expect
local to_string, MAX = core.to_string, core.max_text

local ngx = {}
core.ngx = ngx

-- Texts.

-- The most bytes that one call escapes: Python takes a microsecond for twenty bytes.
local MAX_ESCAPED = 65536

local function short(value, name)
    if #value > MAX_ESCAPED then
        error(name .. ": expected a string of at most " .. MAX_ESCAPED .. " bytes", 3)
    end
    return value
end

-- The text that nginx makes of any value.
local function lenient(value, name)
    if type(value) ~= "string" then
        value = value and to_string(value) or ""
    end
    if #value > MAX then
        error(name .. ": expected a string of at most " .. MAX .. " bytes", 3)
    end
    return value
end

local function encoding(name, f, is_slow)
    ngx[name] = function(value)
        value = lenient(value, name)
        if is_slow then
            value = short(value, name)
        end
        if #value > 1000 then
            costly()
        end
        ready()
        return f(value)
    end
end

for _, name in ipairs({ "md5", "md5_bin", "sha1_bin", "crc32_short", "crc32_long" }) do
    encoding(name, py[name])
end
encoding("unescape_uri", py.unescape_uri, true)

function ngx.quote_sql_str(value)
    value = short(text(value, 1, "quote_sql_str"), "quote_sql_str")
    costly()
    ready()
    return py.quote_sql_str(value)
end

-- The kinds of escaping in nginx are 0 to 6; 2 is for a part of a URI.
local function kind_of(kind)
    if kind == nil then
        return 2
    elseif type(kind) ~= "number" then
        error('"type" is not a number', 3)
    elseif not (kind >= 0 and kind <= 6) then
        error('"type" ' .. kind .. " out of range", 3)
    end
    return kind - kind % 1
end

function ngx.escape_uri(value, kind)
    value, kind = lenient(value, "escape_uri"), kind_of(kind)
    if not find(value, "[^%w_.~-]") then
        return value
    end
    costly()
    ready()
    return py.escape_uri(short(value, "escape_uri"), kind)
end

local escape_uri = ngx.escape_uri

function ngx.encode_base64(value, no_padding)
    value = lenient(value, "encode_base64")
    if no_padding and no_padding ~= true then
        error("bad no_padding: boolean expected, got " .. type(no_padding), 2)
    end
    costly()
    ready()
    return py.encode_base64(value, no_padding == true)
end

function ngx.decode_base64(value)
    if type(value) ~= "string" then
        error("string argument only", 2)
    end
    value = text(value, 1, "decode_base64")
    costly()
    ready()
    return py.decode_base64(value)
end

function ngx.hmac_sha1(key, value)
    key, value = text(key, 1, "hmac_sha1"), text(value, 2, "hmac_sha1")
    costly()
    ready()
    return py.hmac_sha1(key, value)
end

-- Fields of a query or a form.
local function put_field(fields, name, value)
    local known = fields[name]
    if known == nil then
        fields[name] = value
    elseif type(known) == "table" then
        known[#known + 1] = value
    else
        fields[name] = { known, value }
    end
end

core.put_field = put_field

local function unescape(value)
    if not find(value, "[%%+]") then
        return value
    elseif #value <= MAX_ESCAPED then
        costly()
        ready()
        return py.unescape_uri(value)
    end
    -- The work is done in pieces, so that there are looks at the budget between them.  No
    -- piece ends within an escape.
    local pieces, at = {}, 1
    while at <= #value do
        local last = at + MAX_ESCAPED - 1
        local escape = find(value, "%", last - 1, true)
        if escape and escape <= last then
            last = escape - 1
        end
        costly()
        ready()
        pieces[#pieces + 1] = py.unescape_uri(sub(value, at, last))
        at = last + 1
    end
    return concat(pieces)
end

-- Put the fields of a query into the table `fields`, and return the table.  If there are more
-- than `limit` fields, the rest is left out, and "truncated" is returned, too; 0 is no limit.
function core.decode_args(query, limit, fields)
    local n, at, size = 0, 1, #query
    while at <= size do
        local stop = find(query, "&", at, true) or size + 1
        if stop > at then
            local equals = find(query, "=", at, true)
            local name, value
            if equals and equals < stop then
                name, value = sub(query, at, equals - 1), unescape(sub(query, equals + 1, stop - 1))
            else
                name, value = sub(query, at, stop - 1), true
            end
            if name ~= "" then
                if n == limit and n > 0 then
                    return fields, "truncated"
                end
                n = n + 1
                put_field(fields, unescape(name), value)
            end
        end
        at = stop + 1
    end
    return fields
end

-- The integer that nginx makes of a number.  Beyond the integers of C, it is the smallest one.
function core.integer(value)
    if value >= -0x80000000 and value < 0x80000000 then
        return value < 0 and -(-value - -value % 1) or value - value % 1
    end
    return -0x80000000
end

function ngx.decode_args(query, ...)
    query = text(query, 1, "decode_args")
    local limit = 100
    if select("#", ...) > 0 then
        limit = tonumber((...))
        if not limit then
            error("bad argument #2 to 'decode_args' (number expected, got " .. type((...)) .. ")", 2)
        end
        limit = core.integer(limit)
        limit = limit < 0 and 0 or limit
    end
    return core.decode_args(query, limit, {})
end

function core.encode_args(fields, name)
    local pieces, n, total = {}, 0, 0
    local function put(key, value)
        if value == true then
            value = key
        elseif value == false or value == nil then
            return
        elseif type(value) == "string" or type(value) == "number" then
            value = key .. "=" .. escape_uri(value)
        else
            error("attempt to use " .. type(value) .. " as query arg value", 4)
        end
        n, total = n + 1, total + #value
        if total > core.max_text then
            error(name .. ": expected at most " .. core.max_text .. " bytes", 4)
        end
        pieces[n] = value
    end
    for key, value in next, fields do
        if type(key) ~= "string" then
            error("attempt to use a non-string key in the \"args\" option table", 3)
        end
        key = escape_uri(key)
        if type(value) == "table" then
            for _, one in next, value do
                put(key, one)
            end
        else
            put(key, value)
        end
    end
    return concat(pieces, "&")
end

function ngx.encode_args(fields)
    expect(fields, "table", 1, "encode_args")
    return core.encode_args(fields, "encode_args")
end

-- Times.  Nothing is cached, so ngx.update_time has nothing to do.

for _, name in ipairs({ "now", "time", "today", "localtime", "utctime" }) do
    local read = py[name]
    ngx[name] = function()
        ready()
        return read()
    end
end

function ngx.update_time() end

for _, name in ipairs({ "http_time", "cookie_time" }) do
    local made = py[name]
    ngx[name] = function(seconds)
        if type(seconds) ~= "number" then
            error("number argument only", 2)
        end
        ready()
        return made(seconds)
    end
end

function ngx.parse_http_time(value)
    if type(value) ~= "string" then
        error("string argument only", 2)
    end
    value = text(value, 1, "parse_http_time")
    ready()
    return py.parse_http_time(value)
end
