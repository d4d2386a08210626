-- How a script is run: its environment, its budget, its end.
--
-- This and the other Lua files here are trusted; scripts get functions and tables of them
-- through an environment of their own.  One runtime serves every script of a worker, so
-- nothing that a script may write is shared: libraries are seen through a table of the
-- script's own (core.lib), and metatables are closed to it.

local core = ...

local type, tostring, rawset, next = type, tostring, rawset, next
local rawpcall, rawerror = pcall, error
local setfenv, setmetatable, loadstring = setfenv, setmetatable, loadstring
local count, sethook, getinfo = collectgarbage, debug.sethook, debug.getinfo
local str_byte, str_sub, str_find = string.byte, string.sub, string.find
local clock, module_code = core.py.clock, core.py.module
local budget, room = core.budget, core.room / 1024

-- What ends a script without being an error of its own: no script can catch these.
local EXIT, BUDGET, MEMORY = {}, {}, {}

-- Instructions between two looks, and looks between two readings of the clock (which
-- cost a microsecond): fewer when there may be large strings, of which one instruction
-- can take milliseconds.
local STEP, RARELY, OFTEN = 16, 20, 5
local SMALL, LARGE = 64, 1024 -- KiB that a call has allocated

-- The call that runs.
local nobody = { heavy = false }
local script, started, looks, floor, tripped, depth = nobody, nil, 0, 0, false, 0

local function trip()
    if core.outer[getinfo(2, "f").func] then
        return
    end
    rawerror(BUDGET, 0)
end

local function check()
    if script == nobody then
        return
    end
    local now = count("count")
    if now < floor then
        floor = now
    end
    local grown = now - floor
    looks = looks + 1
    if grown > SMALL then
        script.heavy = true
        if looks < OFTEN and grown < LARGE then
            return
        end
    elseif looks < RARELY and not script.heavy then
        return
    end
    looks = 0
    now = clock()
    if not started then
        started = now
    elseif now - started > budget then
        -- From now on every instruction raises, so that a pcall in a loop ends too.
        tripped = true
        sethook(trip, "", 1)
        rawerror(BUDGET, 0)
    end
end

-- For what takes long in a few instructions: the next look reads the clock.
function core.costly()
    looks = RARELY
end

-- A call into Python may need memory where failing is not possible; it is made only
-- while there is some left.
function core.ready()
    if count("count") - floor > room then
        rawerror(MEMORY, 0)
    end
end

local function begin(owner)
    script, started, looks, depth = owner, nil, 0, 0
    floor = count("count")
    owner.settings = nil
    core.fresh()
end

-- How a call ended: nothing, or the kind of failure and what it says.
local function finish(ok, err)
    local late = tripped
    if late then
        tripped = false
        sethook(check, "", STEP)
    end
    script = nobody
    if late then
        return "budget", ""
    elseif ok or err == EXIT then
        return nil
    elseif err == BUDGET then
        return "budget", ""
    elseif err == MEMORY then
        return "memory", ""
    elseif type(err) == "string" then
        if str_find(err, "not enough memory", 1, true) and #err < 200 then
            return "memory", ""
        end
        return "error", str_sub(err, 1, 2000)
    elseif type(err) == "number" then
        return "error", tostring(err)
    end
    return "error", "(error object is a " .. type(err) .. " value)"
end

local function recover()
    return finish(true)
end

core.outer = { [finish] = true, [recover] = true }

-- For Python, when a call ended in a way that only it saw.
core.recover = recover

function core.exit()
    rawerror(EXIT, 0)
end

-- The script that runs.
function core.current()
    return script
end

-- pcall and its kin, for which an end is no error.
local function caught(ok, ...)
    if ok then
        return true, ...
    end
    local err = ...
    if err == EXIT or err == BUDGET or err == MEMORY or type(err) == "userdata" then
        rawerror(err, 0)
    end
    return false, err
end

function core.pcall(f, ...)
    return caught(rawpcall(f, ...))
end

local function handled(handler, ok, ...)
    if ok then
        return true, ...
    end
    local err = ...
    if err == EXIT or err == BUDGET or err == MEMORY or type(err) == "userdata" then
        rawerror(err, 0)
    end
    return false, handler(err)
end

-- The handler runs after the stack is unwound: within it no hook would fire.
function core.xpcall(f, handler, ...)
    return handled(handler, rawpcall(f, ...))
end

-- Coroutines.  They nest on the C stack, so only to a small depth.
local co_create, co_resume = coroutine.create, coroutine.resume
local MAX_DEPTH = 32

local function resumed(...)
    depth = depth - 1
    return caught(...)
end

local function resume(co, ...)
    if type(co) ~= "thread" then
        rawerror("bad argument #1 to 'resume' (coroutine expected)", 3)
    end
    if depth >= MAX_DEPTH then
        return false, "too many coroutines inside each other"
    end
    depth = depth + 1
    return resumed(co_resume(co, ...))
end

function core.resume(co, ...)
    return resume(co, ...)
end

local function unwrapped(ok, ...)
    if not ok then
        rawerror((...), 0)
    end
    return ...
end

function core.wrap(f)
    local co = co_create(f)
    return function(...)
        return unwrapped(resume(co, ...))
    end
end

-- Code.

local function compile(name, code)
    if str_byte(code, 1) == 27 then
        return nil, name .. ":1: expected Lua source, not bytecode"
    end
    return loadstring(code, "=" .. name)
end

core.compile = compile

-- Whether code is Lua; answers what is wrong with it.
function core.check(name, code)
    local chunk, err = compile(name, code)
    if not chunk then
        return err
    end
    return nil
end

-- A library as a script sees it: reads go to ours, writes stay in its own table.
local views = setmetatable({}, { __mode = "k" })

local function view(lib)
    local meta = views[lib]
    if not meta then
        meta = { __index = lib, __metatable = false }
        views[lib] = meta
    end
    return setmetatable({}, meta)
end

core.view = view

-- What `name` is to this script: made when first asked for.
local function global(owner, name)
    local value = core.base[name]
    if value ~= nil then
        return value
    end
    local make = core.makers[name]
    if make then
        return make(owner)
    end
    value = core.libs[name]
    if value then
        return view(value)
    end
    return nil
end

-- Modules that are always there, by the name that `require` knows them by.
local function builtin(owner, name)
    local known = core.modules[name]
    if known == nil then
        return nil
    end
    return type(known) == "string" and owner.shared[known] or known
end

local function required(owner, name, ok, result)
    owner.loading[name] = nil
    if not ok then
        rawerror(result, 0)
    end
    if not result then
        rawerror(name .. " does not return the module", 0)
    end
    owner.loaded[name] = result
    return result
end

function core.base_require(name)
    if type(name) ~= "string" then
        rawerror("bad argument #1 to 'require' (string expected, got " .. type(name) .. ")", 2)
    end
    local owner = script
    local found = owner.loaded[name] or builtin(owner, name)
    if found then
        return found
    end
    if owner.loading[name] then
        rawerror(name .. " requires itself", 2)
    end
    core.ready()
    local code = module_code(name)
    if not code then
        rawerror("module " .. str_sub(name, 1, 200) .. " is not active", 2)
    end
    local chunk, err = compile(name, code)
    if not chunk then
        rawerror(err, 0)
    end
    local env = setmetatable({}, owner.meta)
    rawset(env, "_G", env)
    setfenv(chunk, env)
    owner.loading[name] = true
    return required(owner, name, rawpcall(chunk, name))
end

-- Text compiled by a script, in its own environment.
function core.compile_text(text, name)
    local chunk, err = compile(name, text)
    if not chunk then
        return nil, err
    end
    return setfenv(chunk, script.env)
end

-- A script: a function that runs it, and one that requires a module for it.
function core.load(name, code)
    local chunk, err = compile(name, code)
    if not chunk then
        return nil, err
    end
    local owner = { name = name, loaded = {}, loading = {}, heavy = #code > 32768 }
    local shared = setmetatable({}, {
        __index = function(t, key)
            local value = global(owner, key)
            if value ~= nil then
                rawset(t, key, value)
            end
            return value
        end,
        __metatable = false,
    })
    owner.shared = shared
    -- Globals that a script sets last as long as the request.
    local meta = { __index = shared, __metatable = false }
    owner.meta = meta

    local function run()
        begin(owner)
        local env = setmetatable({}, meta)
        env._G = env
        owner.env = env
        setfenv(chunk, env)
        return finish(rawpcall(chunk))
    end

    local function prepare(wanted)
        begin(owner)
        owner.env = setmetatable({}, meta)
        return finish(rawpcall(core.base_require, wanted))
    end

    local function forget()
        owner.loaded, owner.loading, owner.env = {}, {}, nil
        for key in next, shared do
            shared[key] = nil
        end
    end

    core.outer[run], core.outer[prepare] = true, true
    return run, prepare, forget
end

-- Nothing is reachable from a hook's closure after this.
setmetatable(core.outer, { __mode = "k" })
sethook(check, "", STEP)
