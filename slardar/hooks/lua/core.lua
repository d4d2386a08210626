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
local used, sethook, getinfo = gcinfo, debug.sethook, debug.getinfo
local str_byte, str_sub, str_find, str_lower = string.byte, string.sub, string.find, string.lower
local clock, began, module_code = core.py.clock, core.py.began, core.py.module
local budget, room = core.budget, core.room / 1024

-- What ends a script without being an error of its own: no script can catch these.
local EXIT, BUDGET, MEMORY = {}, {}, {}

-- Instructions between two looks, which cost a tenth of a microsecond, and looks between
-- two readings of the clock, which cost one.
local CALM, SELDOM = 48, 6

-- With a string of a mebibyte one instruction can take a millisecond or two, and from a
-- large string one of a mebibyte is made in a few.  So once a script has made, or let go,
-- more than SMALL between two looks, or does what takes long, there is a look after STEP
-- instructions for the rest of the call, and in each call from now on if it has made that.
-- The clock is then read the more often, the larger what there was: at every look from
-- HUGE on, when there is one after CLOSELY instructions.  That is for the slowest there is,
-- to make a number of a text: 3 us for a KiB.  What is let go counts for the next calls
-- from LARGE on, since it may be what others have made.  In KiB.
local STEP, RARELY = 16, 20
local SMALL, LARGE, HUGE, CLOSELY = 4, 64, 384, 4

-- KiB by which what is in use may differ from what it was when Python set the limit.
local SLACK = core.slack / 1024

-- Protected calls inside each other: as many as Lua without a compiler can have.  To
-- unwind more of them takes long.
local NESTED = 200

-- Bytes of headers that wait here for the end of a call, where each header takes EACH
-- besides its own: so there cannot be too many.  Python says when there is less room in
-- the request.
local PENDING, EACH = core.pending, core.each

-- The environment of a script that does not run.
local nothing = {}

-- The call that runs.
local nobody = { largest = 0 }
local script, started, looks, tripped = nobody, nil, 0, false
-- Instructions between two looks in this call, and looks between two readings of the
-- clock.  Between calls they are CALM and SELDOM.
local step, rarely = CALM, SELDOM
-- KiB in use at the last look, and the least that there were.
local last, floor = 0, 0
-- KiB of the largest that any script has made or has in its code, if that is LARGE: what
-- is there already is not made again, and so not noticed, in another one.
local known = 0
-- Some script has made, or is, larger than SMALL.
local alarmed = false
-- KiB that may be in use when a call begins: about what they were when Python set the limit.
local low, high = 0, -1
-- Coroutines, and protected calls, inside each other.
local depth, nested = 0, 0

-- Of the call that runs, what need not cross to Python.  The method, and the environment.
local method, environment = "GET", false
-- What its script keeps for as long as the request lasts, once there is something.
local own = false
-- The headers that are set: name and value of the first, and a line of each of both for
-- the others; and how many more bytes of them may be kept here.
local name_set, value_set, more_set, left = false, false, false, 0

local check

local function trip()
    if core.outer[getinfo(2, "f").func] then
        return
    end
    rawerror(BUDGET, 0)
end

-- From now on there is a look after so many instructions, or fewer.
local function watch(instructions)
    if step > instructions then
        if step == CALM then
            rarely = RARELY
        end
        step = instructions
        sethook(check, "", step)
    end
end

local function weigh(change)
    watch(STEP)
    alarmed = true
    local size = change < 0 and -change or change
    if size > script.largest and (change > 0 or size > LARGE) then
        script.largest = size
    end
    if size > LARGE and size > known then
        known = size
    end
    local often = HUGE / size
    if often < rarely then
        rarely = often
    end
    if size >= HUGE and step > CLOSELY then
        looks = RARELY
        watch(CLOSELY)
    end
end

check = function()
    if script == nobody then
        return
    end
    local now = used()
    local change = now - last
    last = now
    if now < floor then
        floor = now
    end
    if change > SMALL or change < -SMALL then
        weigh(change)
    end
    looks = looks + 1
    if looks < rarely then
        return
    end
    looks = 0
    -- When it began is asked for by those calls only that last so long.
    started = started or began()
    if clock() - started > budget then
        -- From now on every instruction raises, so that a pcall in a loop ends too.
        tripped = true
        sethook(trip, "", 1)
        rawerror(BUDGET, 0)
    end
end

-- For what takes long in a few instructions: the next look, which is soon, reads the clock.
function core.costly()
    looks = RARELY
    watch(STEP)
end

-- A call into Python may need memory where failing is not possible; it is made only
-- while there is some left.
function core.ready()
    if used() - floor > room then
        rawerror(MEMORY, 0)
    end
end

-- A script that has made larger things is looked at from the beginning.
local function beware(largest)
    watch(STEP)
    if HUGE / largest < RARELY then
        rarely = HUGE / largest
    end
end

local function begin(owner)
    script, started, looks, depth, nested = owner, nil, 0, 0, 0
    floor = used()
    last = floor
    method, left = "GET", 0
    local largest = owner.largest > known and owner.largest or known
    if largest > SMALL then
        beware(largest)
    end
end

-- How a call ended: nothing, or the kind of failure and what it says.
local function finish(ok, err)
    local late = tripped
    if late or step ~= CALM then
        tripped, step, rarely = false, CALM, SELDOM
        sethook(check, "", CALM)
    end
    script, depth, nested = nobody, 0, 0
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

-- What was the request's own is nobody's any more.
local function ended(chunk, kind, message)
    environment, own = false, false
    setfenv(chunk, nothing)
    if kind then
        return kind, message
    end
end

-- The headers that were set, which are nobody's any more.
local function taken()
    local name, value, more = name_set, value_set, more_set
    if name then
        name_set, more_set = false, false
        if more then
            return name, value, more
        end
        return name, value
    end
end

core.taken = taken

local function recover()
    -- What the call had made is nobody's, least of all the next one's.
    taken()
    environment, own = false, false
    return finish(true)
end

core.outer = { [finish] = true, [recover] = true, [taken] = true }

-- For Python, when a call ended in a way that only it saw.
core.recover = recover

-- For Python, when it has set the limit.
function core.limited()
    local now = used()
    low, high = now - SLACK, now + SLACK
end

function core.exit()
    rawerror(EXIT, 0)
end

-- The script that runs.
function core.current()
    return script
end

-- What it keeps for as long as the request lasts.
function core.own()
    own = own or {}
    return own
end

-- Its environment, which is seen now, and so is its own.
function core.environment()
    if environment then
        rawset(environment, "_G", environment)
    end
    return environment
end

-- pcall and its kin, for which an end is no error.

local function passes(err)
    return err == EXIT or err == BUDGET or err == MEMORY or type(err) == "userdata"
end

local function caught(ok, ...)
    nested = nested - 1
    if not ok and passes((...)) then
        rawerror((...), 0)
    end
    return ok, ...
end

local function enter()
    if nested >= NESTED then
        rawerror("too many protected calls inside each other", 3)
    end
    nested = nested + 1
end

function core.pcall(f, ...)
    enter()
    return caught(rawpcall(f, ...))
end

local function handled(handler, ok, ...)
    nested = nested - 1
    if ok then
        return true, ...
    elseif passes((...)) then
        rawerror((...), 0)
    end
    return false, handler((...))
end

-- The handler runs after the stack is unwound: within it no hook would fire.
function core.xpcall(f, handler, ...)
    enter()
    return handled(handler, rawpcall(f, ...))
end

-- The method.

function core.get_method()
    return method
end

function core.set_method(name)
    method = name
end

-- Headers that wait for the end of the call.

-- Names that Python has taken with any value of printable ASCII, and the room that each
-- takes besides its value.
local good, names_left = {}, 256

function core.remember(name)
    -- A host must be one, and those that must not be set are refused.
    if #name > 64 or good[name] or str_lower(name) == "host" then
        return
    end
    if names_left == 0 then
        good, names_left = {}, 256
    end
    good[name], names_left = #name + EACH, names_left - 1
end

-- Most are taken here; `core.set_now` is for the others.
function core.set_header(name, value)
    if type(value) == "string" then
        local rest = good[name]
        if rest then
            rest = left - rest - #value
            if rest >= 0 and str_find(value, "^[ -~]+$") then
                left = rest
                if not name_set then
                    name_set = name
                    value_set = value
                elseif more_set then
                    more_set = more_set .. "\n" .. name .. "\n" .. value
                else
                    more_set = name .. "\n" .. value
                end
                return
            end
        end
    end
    return core.set_now(name, value)
end

-- Coroutines.  They nest on the C stack, so only to a small depth.
local co_create, co_resume = coroutine.create, coroutine.resume
local MAX_DEPTH = 32

local function resumed(before, ok, ...)
    depth, nested = depth - 1, before
    if not ok and passes((...)) then
        rawerror((...), 0)
    end
    return ok, ...
end

local function resume(co, ...)
    if type(co) ~= "thread" then
        rawerror("bad argument #1 to 'resume' (coroutine expected)", 3)
    end
    if depth >= MAX_DEPTH then
        return false, "too many coroutines inside each other"
    end
    depth = depth + 1
    return resumed(nested, co_resume(co, ...))
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
        value = make(owner)
    elseif core.libs[name] then
        value = view(core.libs[name])
    end
    -- That much was made by us, and only once.
    last = used()
    return value
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
    return setfenv(chunk, environment)
end

-- A script: a function that runs it, one that requires a module for it, and one that lets
-- go what its modules keep.
function core.load(name, code, sets)
    local chunk, err = compile(name, code)
    if not chunk then
        return nil, err
    end
    local size = #code / 1024
    if size > LARGE and size > known then
        known = size
    end
    if size > SMALL then
        alarmed = true
    end
    local owner = {
        name = name, loaded = {}, loading = {}, largest = size,
    }
    local shared = setmetatable({}, {
        __index = function(t, key)
            if key == "_G" then
                return core.environment()
            end
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

    -- The environment while nothing was ever put into it: most scripts have only locals,
    -- so that one serves for many calls.
    local env

    local room = sets and PENDING or 0

    -- `verb` is the method of the request, unless it is GET, and `tight` says that there is
    -- hardly room for another header.  Answers true if the limit must be set first; false
    -- and how it failed; or the headers that are to be set, if there are some.
    --
    -- Every instruction here is one of each request: what is set alone takes fewer of them
    -- than several values at once.  Where a call ends well, what it has made of depth and
    -- nested is as it was.
    local function run(verb, tight)
        local now = used()
        if now > high or now < low then
            return true
        end
        script = owner
        started = nil
        looks = 0
        floor = now
        last = now
        method = verb or "GET"
        left = room
        if tight then
            left = 0
        end
        if alarmed then
            local largest = owner.largest > known and owner.largest or known
            if largest > SMALL then
                beware(largest)
            end
        end
        local mine = env
        if mine then
            -- Until the call has ended well.
            env = nil
        else
            mine = setmetatable({}, meta)
            setfenv(chunk, mine)
        end
        environment = mine
        local ok, err = rawpcall(chunk)
        if ok and step == CALM and not next(mine) then
            -- The same as below, for the most.
            script = nobody
            own = false
            env = mine
            local name = name_set
            if name and not more_set then
                name_set = false
                return name, value_set
            end
            return taken()
        end
        local kind, message = ended(chunk, finish(ok, err))
        if kind then
            taken()
            return false, kind, message
        end
        return taken()
    end

    local function prepare(wanted)
        begin(owner)
        environment = setmetatable({}, meta)
        return ended(chunk, finish(rawpcall(core.base_require, wanted)))
    end

    local function forget()
        setfenv(chunk, nothing)
        env, owner.loaded, owner.loading = nil, {}, {}
        for key in next, shared do
            shared[key] = nil
        end
    end

    core.outer[run], core.outer[prepare] = true, true
    return run, prepare, forget
end

-- Nothing is reachable from a hook's closure after this.
setmetatable(core.outer, { __mode = "k" })
sethook(check, "", CALM)
