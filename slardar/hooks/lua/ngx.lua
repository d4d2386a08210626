-- ngx, as far as a rewrite phase needs it.  What a script asks of the request goes to
-- Python in one call; what can be done with texts alone is done here.

local core = ...

local error, type, tostring, select, next, ipairs, pairs =
    error, type, tostring, select, next, ipairs, pairs
local setmetatable, rawset, rawget, tonumber, unpack =
    setmetatable, rawset, rawget, tonumber, unpack
local find, sub, byte, gsub, lower, upper, format =
    string.find, string.sub, string.byte, string.gsub, string.lower, string.upper, string.format
local concat, floor = table.concat, math.floor
local py, ready, costly, text, expect = core.py, core.ready, core.costly, core.text, core.expect
local null, view, absent, absent_library =
    core.null, core.view, core.absent, core.absent_library
local exit = core.exit

-- The values of a table as a list of texts; what is none raises.
local MANY = 100

local function plain(value, name)
    local kind = type(value)
    if kind == "string" then
        return value
    elseif kind == "number" then
        return tostring(value)
    elseif kind == "boolean" then
        return value and "true" or "false"
    end
    error("bad value for " .. name .. ": expected a string, got " .. kind, 4)
end

local function values_of(value, name)
    if type(value) ~= "table" then
        return plain(value, name)
    end
    local list = {}
    for index = 1, #value do
        if index > MANY then
            error("bad value for " .. name .. ": expected at most " .. MANY .. " values", 3)
        end
        list[index] = plain(value[index], name)
    end
    return unpack(list)
end

-- What Python says is wrong raises at the script's line.
local function checked(problem)
    if problem then
        error(problem, 3)
    end
end

local ngx = {
    OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7,
    DEBUG = 8,
    null = null,
    is_subrequest = false,
}

-- Methods of ngx_lua, by number.
local methods, number = {}, 1
for name in
    ("GET HEAD POST PUT DELETE MKCOL COPY MOVE OPTIONS PROPFIND PROPPATCH LOCK UNLOCK PATCH TRACE")
        :gmatch("%u+")
do
    number = number * 2
    ngx["HTTP_" .. name] = number
    methods[number] = name
end

for name, status in pairs({
    CONTINUE = 100, SWITCHING_PROTOCOLS = 101, OK = 200, CREATED = 201, ACCEPTED = 202,
    NO_CONTENT = 204, PARTIAL_CONTENT = 206, SPECIAL_RESPONSE = 300, MOVED_PERMANENTLY = 301,
    MOVED_TEMPORARILY = 302, SEE_OTHER = 303, NOT_MODIFIED = 304, TEMPORARY_REDIRECT = 307,
    PERMANENT_REDIRECT = 308, BAD_REQUEST = 400, UNAUTHORIZED = 401, PAYMENT_REQUIRED = 402,
    FORBIDDEN = 403, NOT_FOUND = 404, NOT_ALLOWED = 405, NOT_ACCEPTABLE = 406,
    REQUEST_TIMEOUT = 408, CONFLICT = 409, GONE = 410, UPGRADE_REQUIRED = 426,
    TOO_MANY_REQUESTS = 429, CLOSE = 444, ILLEGAL = 451, INTERNAL_SERVER_ERROR = 500,
    METHOD_NOT_IMPLEMENTED = 501, NOT_IMPLEMENTED = 501, BAD_GATEWAY = 502,
    SERVICE_UNAVAILABLE = 503, GATEWAY_TIMEOUT = 504, VERSION_NOT_SUPPORTED = 505,
    INSUFFICIENT_STORAGE = 507,
}) do
    ngx["HTTP_" .. name] = status
end

-- The request's own: ngx.ctx, made when it is first used.
local ctx

function core.fresh()
    ctx = nil
end

-- Texts.

local function encoding(name, f)
    ngx[name] = function(value)
        value = text(value, 1, name)
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
encoding("unescape_uri", py.unescape_uri)
encoding("quote_sql_str", py.quote_sql_str)

function ngx.escape_uri(value, kind)
    value = value == nil and "" or text(value, 1, "escape_uri")
    if not find(value, "[^%w_.~-]") then
        return value
    end
    costly()
    ready()
    return py.escape_uri(value, kind == 0)
end

local escape_uri = ngx.escape_uri

function ngx.encode_base64(value, no_padding)
    value = value == nil and "" or type(value) == "boolean" and tostring(value)
        or text(value, 1, "encode_base64")
    costly()
    ready()
    return py.encode_base64(value, no_padding == true)
end

function ngx.decode_base64(value)
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

local function unescape(value)
    if find(value, "[%%+]") then
        ready()
        return py.unescape_uri(value)
    end
    return value
end

local function decode_args(query, limit)
    local fields, n, at, size = {}, 0, 1, #query
    limit = limit == 0 and 1000 or limit or 100
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
                if n == limit then
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

function ngx.decode_args(query, limit)
    return decode_args(text(query, 1, "decode_args"), tonumber(limit))
end

local function encode_args(fields, name)
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
            for index = 1, #value do
                put(key, value[index])
            end
        else
            put(key, value)
        end
    end
    return concat(pieces, "&")
end

function ngx.encode_args(fields)
    expect(fields, "table", 1, "encode_args")
    return encode_args(fields, "encode_args")
end

-- Times.  Nothing is cached, so there is nothing to update.

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
        seconds = tonumber(seconds)
        expect(seconds, "number", 1, name)
        ready()
        local result = made(seconds)
        if not result then
            error("bad argument #1 to '" .. name .. "' (expected seconds since 1970)", 2)
        end
        return result
    end
end

function ngx.parse_http_time(value)
    value = text(value, 1, "parse_http_time")
    ready()
    return py.parse_http_time(value)
end

-- The log.

local function shown(value)
    if value == nil then
        return "nil"
    elseif value == null then
        return "null"
    elseif value == 0 then
        return "0"
    end
    return core.to_string(value)
end

local function joined(name, first, ...)
    local pieces, size = {}, 0
    for position = first, select("#", ...) do
        local piece = shown((select(position, ...)))
        size = size + #piece
        if size > 65536 then
            error(name .. ": expected at most 65536 bytes", 3)
        end
        pieces[#pieces + 1] = piece
    end
    return concat(pieces)
end

function ngx.log(level, ...)
    expect(level, "number", 1, "log")
    if level < 0 or level > 8 then
        error("bad log level: " .. level, 2)
    end
    local line = joined("log", 1, ...)
    ready()
    py.log(level, line)
end

function core.base.print(...)
    local line = joined("print", 1, ...)
    ready()
    py.log(6, line)
end

-- Answering.

local function pieces_of(value, out, level)
    if type(value) ~= "table" then
        local n = out.n + 1
        local piece = shown(value)
        out.size = out.size + #piece
        if out.size > core.max_text then
            error("expected to send at most " .. core.max_text .. " bytes", 0)
        end
        out[n], out.n = piece, n
        return
    end
    if level > 100 then
        error("expected tables nested to at most 100 levels", 0)
    end
    for index = 1, #value do
        pieces_of(value[index], out, level + 1)
    end
end

local function output(name, ending)
    ngx[name] = function(...)
        local out = { n = 0, size = 0 }
        for position = 1, select("#", ...) do
            pieces_of((select(position, ...)), out, 1)
        end
        local body = concat(out) .. ending
        costly()
        ready()
        checked(py.say(body))
        return 1
    end
end

output("print", "")
output("say", "\n")

function ngx.flush()
    return 1
end

function ngx.eof()
    ready()
    checked(py.say(""))
    return 1
end

ngx.send_headers = ngx.eof

function ngx.exit(status)
    status = tonumber(status)
    expect(status, "number", 1, "exit")
    ready()
    checked(py.exit(status))
    exit()
end

function ngx.redirect(url, status)
    url = text(url, 1, "redirect")
    ready()
    checked(py.redirect(url, tonumber(status) or 302))
    exit()
end

-- Headers of the answer, or of the server's reply.

local function no_dashes(name)
    return (gsub(name, "_", "-"))
end

local function one_or_more(first, second, ...)
    if second == nil then
        return first
    end
    return { first, second, ... }
end

local header_meta = {
    __metatable = false,
    __index = function(_, name)
        if type(name) ~= "string" then
            return nil
        end
        ready()
        return one_or_more(py.reply_header(no_dashes(text(name, 1, "header"))))
    end,
    __newindex = function(_, name, value)
        name = no_dashes(text(name, 1, "header"))
        ready()
        if value == nil then
            checked(py.set_reply_header(name))
        else
            checked(py.set_reply_header(name, values_of(value, "header " .. name)))
        end
    end,
}

-- Variables.

local var_meta = {
    __metatable = false,
    __index = function(_, name)
        if type(name) ~= "string" then
            error("bad variable name: expected a string, got " .. type(name), 2)
        end
        ready()
        return py.variable(text(name, 1, "var"))
    end,
    __newindex = function(_, name, value)
        if type(name) ~= "string" then
            error("bad variable name: expected a string, got " .. type(name), 2)
        end
        if value ~= nil then
            value = plain(value, "variable " .. sub(name, 1, 100))
            text(value, 2, "var")
        end
        ready()
        checked(py.set_variable(text(name, 1, "var"), value))
    end,
}

-- ngx.req

local req = {}
local get_method, set_header = py.method, py.set_header

function req.get_method()
    return get_method()
end

function req.set_method(method)
    expect(method, "number", 1, "set_method")
    local name = methods[method]
    if not name then
        error("unsupported HTTP method: " .. method, 2)
    end
    ready()
    checked(py.set_method(name))
end

local headers_meta = {
    __metatable = false,
    __index = function(t, name)
        if type(name) ~= "string" then
            return nil
        end
        return rawget(t, (gsub(lower(name), "_", "-")))
    end,
}

function req.get_headers(limit, raw)
    limit = tonumber(limit) or 100
    ready()
    local lines = py.header_lines()
    local fields, n, at, truncated = {}, 0, 1, nil
    while true do
        local stop = find(lines, "\n", at, true)
        if not stop then
            break
        end
        if n == limit and limit > 0 then
            truncated = "truncated"
            break
        end
        n = n + 1
        local colon = find(lines, ":", at, true)
        local name = sub(lines, at, colon - 1)
        put_field(fields, raw and name or lower(name), sub(lines, colon + 1, stop - 1))
        at = stop + 1
    end
    return raw and fields or setmetatable(fields, headers_meta), truncated
end

function req.set_header(name, value)
    name = text(name, 1, "set_header")
    ready()
    if type(value) == "string" then
        local problem = set_header(name, value)
        if problem then
            error(problem, 2)
        end
    elseif value == nil then
        checked(py.clear_header(name))
    else
        checked(py.set_header(name, values_of(value, "header " .. name)))
    end
end

function req.clear_header(name)
    name = text(name, 1, "clear_header")
    ready()
    checked(py.clear_header(name))
end

function req.get_uri_args(limit)
    ready()
    return decode_args(py.args(), tonumber(limit))
end

function req.set_uri_args(args)
    if type(args) == "table" then
        args = encode_args(args, "set_uri_args")
    else
        args = text(args, 1, "set_uri_args")
    end
    ready()
    checked(py.set_args(args))
end

function req.set_uri(uri, jump)
    uri = text(uri, 1, "set_uri")
    ready()
    checked(py.set_uri(uri))
    if jump then
        exit()
    end
end

function req.http_version()
    return py.http_version()
end

function req.start_time()
    return py.start_time()
end

function req.raw_header(without_line)
    ready()
    return py.raw_header(without_line == true)
end

function req.is_internal()
    return false
end

function req.discard_body() end

-- What there is not: using it says so.

for _, name in ipairs({
    "append_body", "finish_body", "get_body_data", "get_body_file", "get_post_args",
    "init_body", "read_body", "set_body_data", "set_body_file", "socket",
}) do
    req[name] = absent("ngx.req." .. name)
end
for _, name in ipairs({ "exec", "get_raw_phases", "on_abort", "run_worker_thread", "sleep" }) do
    ngx[name] = absent("ngx." .. name)
end

-- ngx for each script: its own tables, whose reads go to ours.

local libraries = {
    config = { subsystem = "http", debug = false, nginx_version = 0, ngx_lua_version = 0,
        prefix = absent("ngx.config.prefix"), nginx_configure = absent("ngx.config.nginx_configure") },
    re = core.re,
    req = req,
    worker = {
        count = function() return 1 end,
        exiting = function() return false end,
        id = function() return 0 end,
        pid = absent("ngx.worker.pid"),
    },
}
local missing = {
    "arg", "balancer", "location", "process", "semaphore", "shared", "socket", "ssl", "thread",
    "timer", "udp", "tcp",
}

function ngx.get_phase()
    return "rewrite"
end

setmetatable(ngx, {
    __index = function(_, key)
        if key == "status" then
            return py.status()
        elseif key == "ctx" then
            ctx = ctx or {}
            return ctx
        elseif key == "headers_sent" then
            return py.sent()
        end
        return nil
    end,
})

local meta = {
    __metatable = false,
    __index = ngx,
    __newindex = function(t, key, value)
        if key == "status" then
            value = tonumber(value)
            expect(value, "number", 2, "status")
            ready()
            checked(py.set_status(value))
        elseif key == "ctx" then
            expect(value, "table", 2, "ctx")
            ctx = value
        else
            rawset(t, key, value)
        end
    end,
}

function core.makers.ngx()
    local made = {
        var = setmetatable({}, var_meta),
        header = setmetatable({}, header_meta),
    }
    for name, lib in next, libraries do
        made[name] = view(lib)
    end
    for _, name in ipairs(missing) do
        made[name] = absent_library("ngx." .. name)
    end
    -- The README of upyun/slardar asks for it here.
    made.get_method = req.get_method
    return setmetatable(made, meta)
end
