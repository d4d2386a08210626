-- ngx, as far as a rewrite phase needs it: constants, the log, answers, and the table `ngx`
-- that each script has of its own.

local core = ...

local error, type, select, next, ipairs, pairs = error, type, select, next, ipairs, pairs
local getmetatable, setmetatable, rawget, rawset, tonumber =
    getmetatable, setmetatable, rawget, rawset, tonumber
local concat = table.concat
local py, ready, costly, text, expect = core.py, core.ready, core.costly, core.text, core.expect
local null, view, absent, absent_library =
    core.null, core.view, core.absent, core.absent_library
local exit, req, own, integer = core.exit, core.req, core.own, core.integer
local ngx = core.ngx

-- Raise what Python says is wrong, at the line of the script.
local function checked(problem)
    if problem then
        error(problem, 3)
    end
end

for name, value in pairs({
    OK = 0, ERROR = -1, AGAIN = -2, DONE = -4, DECLINED = -5,
    STDERR = 0, EMERG = 1, ALERT = 2, CRIT = 3, ERR = 4, WARN = 5, NOTICE = 6, INFO = 7,
    DEBUG = 8,
    null = null,
    is_subrequest = false,
}) do
    ngx[name] = value
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

local function joined(name, ...)
    local pieces, size = {}, 0
    for position = 1, select("#", ...) do
        local piece = shown((select(position, ...)))
        size = size + #piece
        if size > 65536 then
            error(name .. ": expected at most 65536 bytes", 3)
        end
        pieces[#pieces + 1] = piece
    end
    return concat(pieces)
end

-- Check what ngx.log gets: it takes no function, and only tables with a __tostring.
local function check_loggable(...)
    for position = 1, select("#", ...) do
        local value = (select(position, ...))
        local kind = type(value)
        local meta = kind == "table" and getmetatable(value)
        if kind == "table" and not (type(meta) == "table" and rawget(meta, "__tostring")) then
            error("bad argument #" .. position .. " to 'log' (expected table to have __tostring"
                .. " metamethod)", 3)
        elseif kind == "function" or kind == "thread" then
            error("bad argument #" .. position .. " to 'log' (string, number, boolean, or nil"
                .. " expected, got " .. kind .. ")", 3)
        end
    end
end

-- Log a line of slardar, at a level of ngx.
function core.say_log(level, line)
    ready()
    py.log(level, line)
end

function ngx.log(level, ...)
    local number = tonumber(level)
    if not number then
        error("bad argument #1 to 'log' (number expected, got " .. type(level) .. ")", 2)
    end
    level = integer(number)
    if level < 0 or level > 8 then
        error("bad log level: " .. number, 2)
    end
    check_loggable(...)
    local line = joined("log", ...)
    ready()
    py.log(level, line)
end

function core.base.print(...)
    local line = joined("print", ...)
    ready()
    py.log(6, line)
end

-- Answering.

-- The last index of a table whose keys are all indices; nil for another table.
local function last_index(value)
    local last = 0
    for index in next, value do
        if type(index) ~= "number" or index < 1 or index % 1 ~= 0 then
            return nil
        end
        last = index > last and index or last
    end
    return last
end

-- Put the pieces of a value that is said into `out`.  The script is two levels above the
-- outermost call.
local function pieces_of(value, out, level)
    local kind = type(value)
    if kind == "table" then
        if level > 100 then
            error("expected tables nested to at most 100 levels", level + 2)
        end
        local last = last_index(value)
        if not last then
            error("bad argument #1 to 'say' (non-array table found)", level + 2)
        end
        for index = 1, last do
            pieces_of(value[index], out, level + 1)
        end
        return
    elseif kind == "function" or kind == "thread" then
        error("bad argument #1 to 'say' (bad data type " .. kind .. " found)", level + 2)
    end
    local n = out.n + 1
    local piece = shown(value)
    out.size = out.size + #piece
    if out.size > core.max_text then
        error("expected to send at most " .. core.max_text .. " bytes", level + 2)
    end
    out[n], out.n = piece, n
end

local function output(name, ending)
    ngx[name] = function(...)
        if own().eof then
            return nil, "seen eof"
        end
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

function ngx.flush(...)
    if select("#", ...) > 0 then
        expect((...), "boolean", 1, "flush")
    end
    return 1
end

function ngx.send_headers()
    ready()
    checked(py.say(""))
    return 1
end

function ngx.eof()
    local mine = own()
    if mine.eof then
        return nil, "seen eof"
    end
    ready()
    checked(py.say(""))
    mine.eof = true
    return 1
end

function ngx.exit(status)
    expect(status, "number", 1, "exit")
    ready()
    checked(py.exit(status))
    exit()
end

function ngx.redirect(url, ...)
    url = text(url, 1, "redirect")
    local status = 302
    if select("#", ...) > 0 then
        status = tonumber((...))
        if not status then
            error("bad argument #2 to 'redirect' (number expected, got " .. type((...)) .. ")", 2)
        end
    end
    ready()
    checked(py.redirect(url, status))
    exit()
end

for _, name in ipairs({ "exec", "get_raw_phases", "on_abort", "run_worker_thread", "sleep" }) do
    ngx[name] = absent("ngx." .. name)
end

-- ngx for each script: tables of the script, whose reads go to the shared tables.

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
            -- The request's own table, which is made when it is first used.
            local mine = own()
            mine.ctx = mine.ctx or {}
            return mine.ctx
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
            own().ctx = value
        else
            rawset(t, key, value)
        end
    end,
}

function core.makers.ngx()
    local made = {
        var = setmetatable({}, core.var_meta),
        header = setmetatable({}, core.header_meta),
    }
    for name, lib in next, libraries do
        made[name] = view(lib)
    end
    for _, name in ipairs(missing) do
        made[name] = absent_library("ngx." .. name)
    end
    -- upyun/slardar's README calls the function in this place.
    made.get_method = req.get_method
    return setmetatable(made, meta)
end
