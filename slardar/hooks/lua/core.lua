-- Runs scripts: gives each its environment, watches its budget, and ends it.
--
-- This file and the other Lua files here are trusted.  Each script has an environment of its
-- own, through which it gets functions and tables of these files.  One runtime serves every
-- script of a worker, so scripts share nothing that they may write: a script sees a library
-- through a table of its own (core.view), and no script can reach the metatables.
--
-- This file is long because all its functions share the state of the call that runs, in local
-- variables: a table would make each look at the budget slower.

local core = ...

local type, tostring, rawset, next = type, tostring, rawset, next
local rawpcall, rawerror = pcall, error
local setfenv, setmetatable, loadstring = setfenv, setmetatable, loadstring
local used, sethook, getinfo = gcinfo, debug.sethook, debug.getinfo
local str_byte, str_sub, str_find, str_lower = string.byte, string.sub, string.find, string.lower
local clock, began, module_code = core.py.clock, core.py.began, core.py.module
local budget, room = core.budget, core.room / 1024

-- The values that are raised to end a script.  They are no errors of the script, and no
-- script can catch them.
local EXIT, BUDGET, MEMORY = {}, {}, {}

-- A look is a call of `check`, and takes 0.1 us.  CALM is the instructions between two
-- looks.  SELDOM is the looks between two readings of the clock, which take 1 us each.
local CALM, SELDOM = 48, 6

-- With a string of 1 MiB, one instruction can take 1 or 2 ms, and a script can make such a
-- string from a large one in a few instructions.  So looks become more frequent once a script
-- has made or freed more than SMALL between two looks, or does something that takes long.  A
-- look then comes after STEP instructions for the rest of the call.  If the script has made
-- so much, this holds from the beginning of each later call, too.
--
-- The more a script has made or freed, the more often a look reads the clock.  From HUGE on,
-- a look comes after CLOSELY instructions, and each one reads the clock.  The slowest
-- instruction needs this: to make a number of a text takes 3 us for 1 KiB.  What a script
-- frees counts for its later calls only from LARGE on, since another script may have made it.
-- SMALL, LARGE and HUGE are in KiB.
local STEP, RARELY = 16, 20
local SMALL, LARGE, HUGE, CLOSELY = 4, 64, 384, 4

-- When a call begins, the KiB in use may differ by SLACK from when Python set the limit.
local SLACK = core.slack / 1024

-- The most protected calls inside each other: as many as Lua without a compiler can have.
-- Unwinding more of them takes long.
local NESTED = 200

-- The bytes of headers that wait here for the end of a call.  Each header takes EACH bytes
-- besides its own, so their number is limited, too.  Python says when the request has less
-- room.
local PENDING, EACH = core.pending, core.each

-- The bytes of PENDING that are left behind a header with a number (see `learn`).
local REST = PENDING - core.learned - EACH

-- The environment of a script that does not run.
local nothing = {}

-- The numbers of headers of a script that has none.
local no_numbers = {}

-- The call that runs: the script (`nobody` if none runs), when it began (nil until a look
-- asks), the looks since the clock was read, and whether the budget is used up.
local nobody = { largest = 0, numbers = no_numbers }
local script, started, looks, tripped = nobody, nil, 0, false
-- The instructions between two looks in this call, and the looks between two readings of the
-- clock.  Between calls they are CALM and SELDOM.
local step, rarely = CALM, SELDOM
-- The KiB in use at the last look, and the fewest in use at any look of this call.
local last, floor = 0, 0
-- The KiB of the largest value that any script has made or has in its code; 0 below LARGE.
-- Another script may use a value that is there already, and no look notices that.
local known = 0
-- Whether some script has made more than SMALL, or has more code than SMALL.
local alarmed = false
-- A call may begin without a new limit if the KiB in use are between these two.
local low, high = 0, -1
-- The number of coroutines, and of protected calls, inside each other.
local depth, nested = 0, 0

-- The rest is what the call that runs keeps here, so that it need not ask Python.
-- The method of the request.
local method = "GET"
-- The table that the script keeps for as long as the request lasts; false until it needs one.
local own = false
-- The headers that wait for the end of the call: the name and the value of the first one,
-- and a line with the name and a line with the value of each other one.  `left` is how many
-- more bytes of headers may wait.
local name_set, value_set, more_set, left = false, false, false, 0
-- The only header that waits, if it has a number: a table with its name, value and number.
local known_set = false

local check

local function trip()
    if core.outer[getinfo(2, "f").func] then
        return
    end
    rawerror(BUDGET, 0)
end

-- Let a look come after at most this many instructions from now on.
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
    -- The KiB are whole ones, so most looks find as many as before.
    if now ~= last then
        local change = now - last
        last = now
        if now < floor then
            floor = now
        end
        if change > SMALL or change < -SMALL then
            weigh(change)
        end
    end
    looks = looks + 1
    if looks < rarely then
        return
    end
    looks = 0
    -- Python is asked when the call began only if the call lasts long enough to come here.
    started = started or began()
    if clock() - started > budget then
        -- From now on every instruction raises, so that a pcall in a loop ends, too.
        tripped = true
        sethook(trip, "", 1)
        rawerror(BUDGET, 0)
    end
end

-- Called before something that takes long in a few instructions: the next look comes soon,
-- and reads the clock.
function core.costly()
    looks = RARELY
    watch(STEP)
end

-- Called before each call into Python, which may need memory where it cannot fail.  Raises if
-- there is too little left.
function core.ready()
    if used() - floor > room then
        rawerror(MEMORY, 0)
    end
end

-- Let looks be frequent from the beginning of a call if the script has made large values.
local function beware(largest)
    watch(STEP)
    if HUGE / largest < RARELY then
        rarely = HUGE / largest
    end
end

local function begin(owner)
    floor = used()
    last = floor
    -- A look between these lines would take all that is in use for made by the script.
    script, started, looks, depth, nested = owner, nil, 0, 0, 0
    method, left = "GET", 0
    local largest = owner.largest > known and owner.largest or known
    if largest > SMALL then
        beware(largest)
    end
end

-- End a call.  Returns nil, or the kind of the failure and a message.
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

-- Take the headers that wait for the end of the call, and let go of them here.
local function taken()
    local only = known_set
    if only then
        known_set = false
        return only.name, only.value
    end
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
    -- The next call must not get what this one has made.
    taken()
    script.environment, own = nil, false
    return finish(true)
end

core.outer = { [finish] = true, [recover] = true, [taken] = true }

-- Python calls this if a call ended in a way that only Python saw.
core.recover = recover

-- Python calls this when it has set the limit.
function core.limited()
    local now = used()
    low, high = now - SLACK, now + SLACK
end

function core.exit()
    rawerror(EXIT, 0)
end

-- Return the script that runs.
function core.current()
    return script
end

-- Return the table that the script keeps for as long as the request lasts.
function core.own()
    own = own or {}
    return own
end

-- Return the environment of the script.  The script may look at it from now on, so it gets
-- its own _G.
function core.environment()
    local mine = script.environment
    if mine then
        rawset(mine, "_G", mine)
    end
    return mine
end

-- pcall and xpcall, which pass on what ends a script.

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

-- The handler runs after the stack is unwound, because no debug hook would fire in it before.
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

-- The names for which Python accepts any value of printable ASCII, and the bytes that each
-- takes besides its value.
local good, names_left = {}, 256

function core.remember(name)
    -- The value of Host must be a valid host.  Headers that must not be set never come here,
    -- since Python refuses them.
    if #name > 64 or good[name] or str_lower(name) == "host" then
        return
    end
    if names_left == 0 then
        good, names_left = {}, 256
    end
    good[name], names_left = #name + EACH, names_left - 1
end

-- Let a header wait if it can; `core.set_now` sets all others at once.
function core.set_header(name, value)
    local known = script.numbers[name]
    known = known and known[value]
    -- While all the room is left, no header waits.
    if known and left == PENDING then
        left = REST
        known_set = known
        return
    end
    if type(value) == "string" then
        local rest = good[name]
        if rest then
            rest = left - rest - #value
            if rest >= 0 and str_find(value, "^[ -~]+$") then
                left = rest
                local only = known_set
                if only then
                    known_set = false
                    name_set = only.name
                    value_set = only.value
                end
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

-- Coroutines.  They nest on the C stack, so their depth is limited.
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

-- Return what is wrong with the code, or nil if it is valid Lua.
function core.check(name, code)
    local chunk, err = compile(name, code)
    if not chunk then
        return err
    end
    return nil
end

-- A library as a script sees it: reads go to the library, writes stay in the script's table.
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

-- The global `name` of this script, which is made when it is first asked for.
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
    -- The next look must not blame the script for what was made here, only once.
    last = used()
    if last < floor then
        floor = last
    end
    return value
end

-- The module that `require` finds under this name in every script, or nil.
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

-- Compile a text for a script, in the environment of the script.
function core.compile_text(text, name)
    local chunk, err = compile(name, text)
    if not chunk then
        return nil, err
    end
    return setfenv(chunk, script.environment)
end

-- Load a script.  Returns a function that runs it, one that requires a module for it, one
-- that lets go what its modules keep, and one that learns the numbers of headers.
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
        name = name, loaded = {}, loading = {}, largest = size, numbers = no_numbers,
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
    -- A global that a script sets lasts as long as the request.
    local meta = { __index = shared, __metatable = false }
    owner.meta = meta

    -- End a call, let go what it kept for its request, and return how it ended.
    local function ended(ok, err)
        -- First, since `finish` may find no memory for the message.
        owner.environment, own = nil, false
        setfenv(chunk, nothing)
        local kind, message = finish(ok, err)
        if kind then
            return kind, message
        end
    end

    local room = sets and PENDING or 0

    -- `given` is the method of the request; nil for GET.  `tight` says that the request has no
    -- room for headers that wait.  Returns true if the limit must be set first; false and how
    -- the call failed; or the headers that wait, if there are some: their texts, or the number
    -- of the only one.
    --
    -- Every instruction here is part of each request.  One assignment for each variable takes
    -- fewer instructions than one for several.  depth and nested need no reset, since a call
    -- that ends well leaves them as they were.
    local function run(given, tight)
        local now = used()
        if now > high or now < low then
            return true
        end
        floor = now
        last = now
        -- A look between these lines would take all that is in use for made by the script.
        script = owner
        started = nil
        looks = 0
        left = room
        if given then
            method = given
            if tight then
                left = 0
            end
        else
            method = "GET"
        end
        if alarmed then
            local largest = owner.largest > known and owner.largest or known
            if largest > SMALL then
                beware(largest)
            end
        end
        -- The environment of the last call, if that has ended well and has put nothing into it.
        -- Most scripts have locals only, so one environment serves many calls.
        local mine = owner.environment
        if not mine then
            mine = setmetatable({}, meta)
            setfenv(chunk, mine)
            owner.environment = mine
        end
        local ok, err = rawpcall(chunk)
        if ok and step == CALM and not next(mine) then
            -- The quick way to do what `ended` does.
            script = nobody
            own = false
        else
            local kind, message = ended(ok, err)
            if kind then
                taken()
                return false, kind, message
            end
        end
        local only = known_set
        if only then
            known_set = false
            return only.number
        end
        return taken()
    end

    local function prepare(wanted)
        begin(owner)
        owner.environment = setmetatable({}, meta)
        return ended(rawpcall(core.base_require, wanted))
    end

    local function forget()
        setfenv(chunk, nothing)
        owner.environment, owner.loaded, owner.loading = nil, {}, {}
        for key in next, shared do
            shared[key] = nil
        end
    end

    -- Python knows a header with its value, which the script has set before, by this number.
    local function learn(name, value, number)
        if owner.numbers == no_numbers then
            owner.numbers = {}
        end
        local numbers = owner.numbers[name] or {}
        owner.numbers[name] = numbers
        numbers[value] = { name = name, value = value, number = number }
    end

    core.outer[run], core.outer[prepare], core.outer[ended] = true, true, true
    return run, prepare, forget, learn
end

-- `outer` must not keep the functions of scripts that were let go.
setmetatable(core.outer, { __mode = "k" })
sethook(check, "", CALM)
