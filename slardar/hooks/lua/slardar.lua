-- slardar, errno and utils: the libraries that upyun/slardar gave its scripts.  And request.

local core = ...

local error, type, tostring, tonumber, next, unpack =
    error, type, tostring, tonumber, next, unpack
local setmetatable, rawget, setfenv, loadstring = setmetatable, rawget, setfenv, loadstring
local sub, byte, gsub, rawpcall = string.sub, string.byte, string.gsub, pcall
local py, ready, text, expect = core.py, core.ready, core.text, core.expect
local concat, sort = core.libs.table.concat, core.libs.table.sort

-- errno

local entry_meta = {
    __metatable = false,
    __index = function(entry, key)
        if key == "code" then
            return rawget(entry, 1)
        elseif key == "httpcode" then
            return tonumber(sub(tostring(rawget(entry, 1)), 1, 3))
        elseif key == "msg" then
            return rawget(entry, 2)
        end
        return nil
    end,
    __eq = function(a, b)
        return rawget(a, 1) == rawget(b, 1)
    end,
}

local names, codes, messages = {}, {}, {}
for name, code, message in core.errnos:gmatch("(%S+) (%d+) ([^\n]+)\n") do
    names[tonumber(code)], codes[name], messages[name] = name, tonumber(code), message
end

-- An unknown name or code is a mistake in the script, but no reason for a call to fail.
local function unknown(errno, what)
    core.say_log(4, "unknown error: " .. sub(core.to_string(what), 1, 100))
    return rawget(errno, "UNKNOWN_ERR")
end

core.makers.errno = function()
    local errno = {}
    for name, code in next, codes do
        local entry = setmetatable({ code, messages[name] }, entry_meta)
        core.set_name(entry, tostring(code))
        errno[name] = entry
    end
    function errno.from_code(code)
        local number = tonumber(code)
        -- A table cannot be read at NaN, and nil finds nothing.
        local name = number and number == number and names[number]
        return name and rawget(errno, name) or unknown(errno, code)
    end
    return setmetatable(errno, { __metatable = false, __index = unknown })
end

-- utils

local utils = {}
core.libs.utils = utils

-- Split a text at each character of a set.  The set is written as between the brackets of a
-- pattern: ",;" or "%s".  Empty pieces are left out.
function utils.str_split(s, separators)
    s = text(s, 1, "str_split")
    separators = separators and text(separators, 2, "str_split") or "%s"
    local pattern = "[^" .. separators .. "]+"
    local ok, err = rawpcall(core.libs.string.find, "", pattern)
    if not ok then
        local is_text = type(err) == "string"
        error(is_text and (gsub(err, "^[%w%._]+:%d+: ", "")) or err, is_text and 2 or 0)
    end
    local pieces, n = {}, 0
    for piece in core.libs.string.gmatch(s, pattern) do
        n = n + 1
        pieces[n] = piece
    end
    return pieces
end

function utils.str_join(pieces, separator)
    return concat(pieces, separator)
end

local function last_of(s, wanted)
    for at = #s, 1, -1 do
        if byte(s, at) == wanted then
            return at
        end
    end
    return nil
end

-- Split "/a/b" into "/a/" and "b"; return "/a/" as one value.
function utils.basename(path)
    path = text(path, 1, "basename")
    local slash = last_of(path, 47)
    if not slash then
        error("basename: expected a path with a slash", 2)
    end
    if slash == #path then
        return path
    end
    return sub(path, 1, slash), sub(path, slash + 1)
end

-- Split "a.b.txt" into "a.b" and "txt".
function utils.filename(name)
    name = text(name, 1, "filename")
    local dot = last_of(name, 46)
    if not dot then
        return name
    elseif dot == #name then
        return sub(name, 1, -2)
    end
    return sub(name, 1, dot - 1), sub(name, dot + 1)
end

function utils.null(value)
    return value == nil or value == core.null
end

function utils.sorted_pairs(t, order)
    expect(t, "table", 1, "sorted_pairs")
    local keys = {}
    for key in next, t do
        keys[#keys + 1] = key
    end
    if order then
        sort(keys, function(a, b)
            return order(t, a, b)
        end)
    else
        sort(keys)
    end
    local at = 0
    return function()
        at = at + 1
        local key = keys[at]
        if key ~= nil then
            return key, t[key]
        end
    end
end

-- slardar

local slardar = {}

function slardar.exit(err)
    local code, message = err, nil
    if type(err) == "table" then
        code, message = tonumber(err.code), err.msg
        if not code then
            error("slardar.exit: expected one of errno, with a code", 2)
        end
    elseif type(err) ~= "number" then
        error("slardar.exit: expected one of errno, got " .. type(err), 2)
    end
    message = message == nil and (messages[names[code]] or "") or text(message, 1, "exit")
    ready()
    local problem
    if code >= 200 and code < 1000 then
        -- The code is a plain status, so the client gets no error code.
        problem = py.exit(code, message)
    else
        problem = py.exit_with(code, message)
    end
    if problem then
        error(problem, 2)
    end
    core.exit()
end

local function chooses(name)
    slardar["set_" .. name] = function(value)
        if value ~= nil then
            value = text(value, 1, "set_" .. name)
        end
        ready()
        local problem = py.choose(name, value)
        if problem then
            error(problem, 2)
        end
    end
end

chooses("upstream")
chooses("hash_key")

-- Set the cluster to try first, or several in order.
function slardar.set_cluster_key(...)
    local value = (...)
    local list = type(value) == "table" and value or { value }
    if #list > 64 then
        error("cluster_key: expected at most 64 names", 2)
    end
    local names = {}
    for index = 1, #list do
        names[index] = text(list[index], 1, "set_cluster_key")
    end
    ready()
    local problem = py.choose("cluster_key", unpack(names))
    if problem then
        error(problem, 2)
    end
end

-- A setting is read as a copy, which lasts as long as the request.  For each setting that was read
-- there is a function that makes a copy.  Python calls `forget_settings` when settings have changed.
local settings, nothing = {}, {}

function core.forget_settings()
    settings = {}
end

local function maker_of(key)
    ready()
    local source = py.setting(text(key, 1, "slardar"))
    if not source then
        -- Not noted: a script may ask for any number of names.
        return nil
    end
    local make = setfenv(loadstring(source, "=setting"), nothing)(core.null)
    settings[key] = make
    return make
end

local meta = {
    __metatable = false,
    __index = function(_, key)
        local own = slardar[key]
        if own ~= nil or type(key) ~= "string" then
            return own
        end
        local mine = core.own()
        local copies = mine.settings
        if copies and copies[key] ~= nil then
            return copies[key]
        end
        local make = settings[key] or maker_of(key)
        if not make then
            return nil
        end
        if not copies then
            copies = {}
            mine.settings = copies
        end
        local value = make()
        copies[key] = value
        return value
    end,
    __newindex = function(_, key)
        error("slardar." .. core.to_string(key) .. " is read-only", 2)
    end,
}

core.makers.slardar = function()
    return setmetatable({}, meta)
end

-- request: what else there is to know of the request.

-- The client's TLS is read as a copy, which lasts as long as the request.
local function tls_of()
    local mine = core.own()
    if mine.tls == nil then
        ready()
        local source = py.tls()
        mine.tls = source and setfenv(loadstring(source, "=tls"), nothing)(core.null)() or false
    end
    return mine.tls
end

local request_meta = {
    __metatable = false,
    __index = function(_, key)
        local tls = (key == "tls" or key == "client_cert") and tls_of()
        if not tls then
            return nil
        end
        return key == "tls" and tls or tls.client_cert
    end,
    __newindex = function(_, key)
        error("request." .. core.to_string(key) .. " is read-only", 2)
    end,
}

core.makers.request = function()
    return setmetatable({}, request_meta)
end

core.modules["modules.errno"] = "errno"
core.modules["modules.utils"] = "utils"
