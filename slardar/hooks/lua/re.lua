-- ngx.re: regular expressions by RE2, whose time is linear in the subject.
--
-- py.regex finds one match.  For the match, and then for each group, it returns the first
-- place and the place behind the last; 0 and 0 for a group that took no part.  Places count
-- from 1.

local core = ...

local error, type, tonumber = error, type, tonumber
local sub, find, byte, gsub, concat =
    string.sub, string.find, string.byte, string.gsub, table.concat
local select = select
local py, ready, costly, expect = core.py, core.ready, core.costly, core.expect
local to_string = core.to_string
local rawpcall = pcall

local MAX = core.max_text

local lib = {}
core.re = lib

local function search(s, regex, options, at)
    costly()
    ready()
    return py.regex(s, regex, options or "", at)
end

-- Put the named groups into `found`.  py.regex_names returns a line "NUMBER NAME" for each.
local function put_names(found, regex, options)
    local names, at = py.regex_names(regex, options or ""), 1
    while true do
        local stop = find(names, "\n", at, true)
        if not stop then
            return
        end
        local space = find(names, " ", at, true)
        local value = found[tonumber(sub(names, at, space - 1))]
        local name = sub(names, space + 1, stop - 1)
        if found[name] == nil or found[name] == false then
            found[name] = value
        end
        at = stop + 1
    end
end

-- Put the captures into a table: the whole match at 0, and false for a group that took no
-- part.
local function collect(into, s, regex, options, ...)
    local n = select("#", ...)
    for index = 1, n, 2 do
        local first, behind = select(index, ...)
        into[(index - 1) / 2] = first > 0 and sub(s, first, behind - 1)
    end
    if n > 2 then
        put_names(into, regex, options)
    end
    return into
end

-- The message of PCRE for a place beyond the subject.
local BEYOND = "pcre_exec() failed: -24"

-- The place where nginx begins a search; nil if it is beyond the subject.
local function start(ctx, s)
    if not ctx then
        return 1
    end
    if type(ctx) ~= "table" then
        error("bad argument #4 to 'match' (table expected, got " .. type(ctx) .. ")", 3)
    end
    local at = ctx.pos
    if not at then
        return 1
    elseif type(at) ~= "number" then
        error("bad argument #4 to 'match' (number expected for pos, got " .. type(at) .. ")", 3)
    end
    if at < 1 then
        return 1
    end
    return at < #s + 2 and at - at % 1 or nil
end

-- Check the arguments.  A subject may be any value, whose text is taken; the flags must be
-- known.
local function arguments(s, regex, options, name)
    if type(s) ~= "string" then
        s = to_string(s)
    end
    if type(regex) ~= "string" then
        error("bad argument #2 to '" .. name .. "' (string expected, got " .. type(regex) .. ")", 3)
    end
    if #s > MAX or #regex > MAX then
        error(name .. ": expected a string of at most " .. MAX .. " bytes", 3)
    end
    if not options or options == "" then
        return s, regex, ""
    elseif type(options) == "table" and #options == 0 then
        return s, regex, ""
    elseif type(options) ~= "string" then
        error("bad argument #3 to '" .. name .. "' (string expected, got " .. type(options) .. ")", 3)
    end
    local wrong = find(options, "[^adDijJmosuUx]")
    if wrong then
        error(
            'unknown flag "' .. sub(options, wrong, wrong) .. '" (flags "' .. sub(options, 1, 100) .. '")',
            3
        )
    end
    -- J changes what a reference to an unset group matches, and RE2 has no references.
    return s, regex, (gsub(options, "J", ""))
end

local function matched(s, regex, options, ctx, into, first, behind, ...)
    if not first then
        if behind then
            return nil, behind
        end
        return nil
    end
    if ctx then
        ctx.pos = behind
    end
    return collect(into or {}, s, regex, options, first, behind, ...)
end

function lib.match(s, regex, options, ctx, into)
    s, regex, options = arguments(s, regex, options, "match")
    if into then
        expect(into, "table", 5, "match")
    end
    local at = start(ctx, s)
    if not at then
        return nil, BEYOND
    end
    return matched(s, regex, options, ctx, into, search(s, regex, options, at))
end

local function found(ctx, group, first, behind, ...)
    if not first then
        if behind then
            return nil, nil, behind
        end
        return nil
    end
    if ctx then
        ctx.pos = behind
    end
    if group > 0 then
        if group > select("#", ...) / 2 then
            return nil, nil, "nth out of bound"
        end
        first, behind = select(2 * group - 1, ...)
        if first == 0 then
            return nil, nil
        end
    end
    return first, behind - 1
end

function lib.find(s, regex, options, ctx, group)
    s, regex, options = arguments(s, regex, options, "find")
    group = group or 0
    if type(group) ~= "number" then
        error("bad argument #5 to 'find' (number expected, got " .. type(group) .. ")", 2)
    end
    if not (group > 0) then
        group = 0
    elseif group < MAX and group % 1 > 0 then
        group = group - group % 1 + 1
    end
    local at = start(ctx, s)
    if not at then
        return nil, nil, BEYOND
    end
    return found(ctx, group, search(s, regex, options, at))
end

function lib.gmatch(s, regex, options)
    s, regex, options = arguments(s, regex, options, "gmatch")
    local at = 1
    local function step(first, behind, ...)
        if not first then
            at = #s + 2
            if behind then
                return nil, behind
            end
            return nil
        end
        at = behind > first and behind or behind + 1
        return collect({}, s, regex, options, first, behind, ...)
    end
    local known, problem = py.regex("", regex, options or "", 1)
    if not known and problem then
        return nil, problem
    end
    return function()
        if at > #s + 1 then
            return nil
        end
        return step(search(s, regex, options, at))
    end
end

-- Parse a replacement with $1, ${1}, $0 and $$ into a list of texts and numbers of groups.
-- Returns nil if it is malformed.
local function template(replacement)
    local pieces, n, at = {}, 0, 1
    while true do
        local dollar = find(replacement, "$", at, true)
        if not dollar then
            pieces[n + 1] = sub(replacement, at)
            return pieces
        end
        pieces[n + 1] = sub(replacement, at, dollar - 1)
        n = n + 2
        local first, last = find(replacement, "^%d+", dollar + 1)
        if byte(replacement, dollar + 1) == 36 then
            pieces[n], at = "$", dollar + 2
        elseif first then
            pieces[n], at = tonumber(sub(replacement, first, last)), last + 1
        else
            first, last = find(replacement, "^{%d+}", dollar + 1)
            if not first then
                return nil
            end
            pieces[n], at = tonumber(sub(replacement, first + 1, last - 1)), last + 1
        end
    end
end

local function expand(pieces, captures)
    local made = {}
    for index = 1, #pieces do
        local piece = pieces[index]
        made[index] = type(piece) == "number" and (captures[piece] or "") or piece
    end
    return concat(made)
end

local function substitute(s, regex, replacement, options, all)
    local pieces, n, at, done, size = {}, 0, 1, 0, 0
    local problem
    local function put(piece)
        n, size = n + 1, size + #piece
        if size > MAX then
            error("sub: expected to make at most " .. MAX .. " bytes", 0)
        end
        pieces[n] = piece
    end
    local plain = type(replacement) == "string"
    local function step(from, first, behind, ...)
        if not first then
            problem = behind
            return nil
        end
        done = done + 1
        put(sub(s, at, first - 1))
        if plain then
            put(replacement)
        else
            local captures = collect({}, s, regex, options, first, behind, ...)
            if type(replacement) == "table" then
                put(expand(replacement, captures))
            else
                put(to_string((replacement(captures))))
            end
        end
        at = behind
        if behind == first then
            -- Go past an empty match, so that the next match is another one.
            put(sub(s, first, first))
            at = first + 1
        end
        return at
    end
    local from = 1
    repeat
        from = step(from, search(s, regex, options, from))
    until not from or not all or from > #s + 1
    if problem then
        return nil, nil, problem
    end
    put(sub(s, at))
    return concat(pieces), done
end

local function substitution(name, all)
    lib[name] = function(s, regex, replacement, options)
        s, regex, options = arguments(s, regex, options, name)
        if type(replacement) ~= "function" then
            replacement = to_string(replacement)
            if find(replacement, "$", 1, true) then
                replacement = template(replacement)
            end
        end
        if not replacement then
            ready()
            local known, problem = py.regex("", regex, options, 1)
            return nil, nil, not known and problem or "failed to compile the replacement template"
        end
        local ok, result, count, problem =
            rawpcall(substitute, s, regex, replacement, options, all)
        if not ok then
            local bare = type(result) == "string" and not find(result, "^[%w%._*-]+:%d+: ")
            error(result, bare and 2 or 0)
        elseif problem then
            return nil, nil, problem
        end
        return result, count
    end
end

substitution("sub", false)
substitution("gsub", true)
