-- ngx.req, ngx.var and ngx.header: how a script reads and changes the request.

local core = ...

local error, type, ipairs, tonumber = error, type, ipairs, tonumber
local setmetatable, rawget, rawset, next, unpack = setmetatable, rawget, rawset, next, unpack
local find, sub, gsub, lower = string.find, string.sub, string.gsub, string.lower
local char, format = string.char, string.format
local py, ready, costly, text, expect = core.py, core.ready, core.costly, core.text, core.expect
local to_string, integer = core.to_string, core.integer
local decode_args, encode_args, absent = core.decode_args, core.encode_args, core.absent
local put_field, exit, taken, costly = core.put_field, core.exit, core.taken, core.costly

-- %XX for each character: nginx writes so what must not be on a line of a head.
local escapes = {}
for code = 0, 255 do
    escapes[char(code)] = format("%%%02X", code)
end

-- The control characters that no value may have.
local CONTROLS = "[%z\1-\8\10-\31\127]"

-- The most bytes of a name or a value that is escaped.  Python refuses a longer one.
local LONGEST = 65536

local function value_of(value)
    if type(value) ~= "string" then
        value = to_string(value)
    end
    if find(value, CONTROLS) and #value <= LONGEST then
        costly()
        return (gsub(value, CONTROLS, escapes))
    end
    return value
end

-- The most values of one header.
local MANY = 100

-- The values that a script gives a header, as texts.  Empty ones are left out.
local function values_of(value, name)
    if type(value) ~= "table" then
        value = value_of(value)
        if value ~= "" then
            return value
        end
        return
    end
    local list, n = {}, 0
    for index = 1, #value do
        local one = value_of(value[index])
        if one ~= "" then
            if n == MANY then
                error("bad value for " .. name .. ": expected at most " .. MANY .. " values", 3)
            end
            n = n + 1
            list[n] = one
        end
    end
    return unpack(list, 1, n)
end

-- The name of a header, escaped where nginx escapes it.
local function name_of(name)
    if type(name) ~= "string" then
        name = to_string(name)
    end
    if find(name, "[^%w!#$%%&'*+.^_`|~-]") and #name <= LONGEST then
        costly()
        return (gsub(name, "[^%w!#$%%&'*+.^_`|~-]", escapes))
    end
    return name
end

-- Raise what Python says is wrong, at the line of the script.
local function checked(problem)
    if problem then
        error(problem, 3)
    end
end

-- Set the headers that wait.  Called before headers are read, or written in another way.
local function settle()
    local name, value, more = taken()
    if name then
        checked(py.set_headers(name, value, more))
    end
end

-- ngx.header: the headers of the answer, or of the server's reply.

local function no_dashes(name)
    return (gsub(name, "_", "-"))
end

local function one_or_more(first, second, ...)
    if second == nil then
        return first
    end
    return { first, second, ... }
end

core.header_meta = {
    __metatable = false,
    __index = function(_, name)
        name = no_dashes(text(to_string(name), 1, "header"))
        ready()
        return one_or_more(py.reply_header(name))
    end,
    __newindex = function(_, name, value)
        name = no_dashes(name_of(name))
        if name == "" then
            return
        end
        ready()
        if value == nil then
            checked(py.set_reply_header(name))
        else
            checked(py.set_reply_header(name, values_of(value, "header " .. name)))
        end
    end,
}

-- ngx.var.

core.var_meta = {
    __metatable = false,
    __index = function(_, name)
        if type(name) == "number" then
            -- nginx has the groups of a location's regular expression here; hooks have none.
            return nil
        elseif type(name) ~= "string" then
            error("bad variable name: expected a string, got " .. type(name), 2)
        end
        ready()
        settle()
        return py.variable(text(name, 1, "var"))
    end,
    __newindex = function(_, name, value)
        if type(name) ~= "string" then
            error("bad variable name: expected a string, got " .. type(name), 2)
        end
        if value ~= nil then
            value = text(to_string(value), 2, "var")
        end
        ready()
        checked(py.set_variable(text(name, 1, "var"), value))
    end,
}

-- ngx.req

-- The methods by the numbers of ngx_lua.
local methods, number = {}, 1
for name in
    ("GET HEAD POST PUT DELETE MKCOL COPY MOVE OPTIONS PROPFIND PROPPATCH LOCK UNLOCK PATCH TRACE")
        :gmatch("%u+")
do
    number = number * 2
    core.ngx["HTTP_" .. name] = number
    methods[number] = name
end

local req = {}
core.req = req
local set_header, remember = py.set_header, core.remember

req.get_method, req.set_header = core.get_method, core.set_header

function req.set_method(method)
    expect(method, "number", 1, "set_method")
    local name = methods[method]
    if not name then
        error("unsupported HTTP method: " .. method, 2)
    end
    ready()
    checked(py.set_method(name))
    core.set_method(name)
end

local headers_meta = {
    __metatable = false,
    __index = function(t, name)
        local kind = type(name)
        if kind ~= "string" and kind ~= "number" then
            error("bad argument #1 to 'lower' (string expected, got " .. kind .. ")", 2)
        end
        return rawget(t, (gsub(lower(name), "_", "-")))
    end,
}

-- The number of headers, or of fields of a query, that the script asks for; 0 asks for all.
local function most(limit, name)
    if not limit then
        return 100
    elseif limit == true then
        return 1
    elseif type(limit) ~= "number" then
        error("bad argument #1 to '" .. name .. "' (number expected, got " .. type(limit) .. ")", 3)
    end
    limit = integer(limit)
    return limit < 0 and 100 or limit
end

function req.get_headers(limit, raw)
    limit = most(limit, "get_headers")
    ready()
    settle()
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

function core.set_now(name, value)
    if name == nil then
        error("bad 'name' argument: string expected, got nil", 2)
    end
    name = name_of(name)
    ready()
    settle()
    if type(value) == "string" and value ~= "" then
        local problem = set_header(name, value_of(value))
        if problem then
            error(problem, 2)
        end
        remember(name)
    elseif value == nil then
        checked(set_header(name))
    else
        checked(set_header(name, values_of(value, "header " .. name)))
    end
end

function req.clear_header(name)
    name = name_of(name)
    ready()
    settle()
    -- An invalid name is the name of no header, so what Python says does not matter.
    py.clear_header(name)
end

function req.get_uri_args(limit, fields)
    limit = most(limit, "get_uri_args")
    if fields then
        expect(fields, "table", 2, "get_uri_args")
        for name in next, fields do
            rawset(fields, name, nil)
        end
    end
    ready()
    return decode_args(py.args(), limit, fields or {})
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
    return py.raw_header(without_line and true or false)
end

function req.is_internal()
    return false
end

-- The body.

function req.read_body()
    ready()
    checked(py.read_body())
end

function req.get_body_data()
    ready()
    local data = py.body_data()
    if data and #data > 1000 then
        costly()
    end
    return data
end

-- A body is never in a file.
function req.get_body_file()
    return nil
end

function req.get_post_args(limit)
    if limit == nil then
        limit = 100
    else
        limit = integer(tonumber(limit) or expect(limit, "number", 1, "get_post_args"))
    end
    ready()
    local data = py.form()
    if not data then
        error("no request body found; call ngx.req.read_body first", 2)
    elseif data == true then
        return nil, "the request body is larger than hooks.body"
    end
    return decode_args(data, limit < 0 and 0 or limit, {})
end

function req.set_body_data(data)
    data = text(data, 1, "set_body_data")
    ready()
    checked(py.set_body(data))
end

function req.discard_body()
    ready()
    py.discard_body()
end

-- Functions that hooks do not have: using one raises an error that says so.

for _, name in ipairs({
    "append_body", "finish_body", "init_body", "set_body_file", "socket",
}) do
    req[name] = absent("ngx.req." .. name)
end
