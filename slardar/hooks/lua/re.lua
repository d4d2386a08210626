-- ngx.re: regular expressions by RE2, whose time grows with the subject only.
--
-- py.regex finds one match: it answers the first place and the one behind the last, for
-- the whole and then for each group (0 and 0 for one that took no part), all from 1.

local core = ...

local error, type, tostring, tonumber = error, type, tostring, tonumber
local sub, find, byte, concat = string.sub, string.find, string.byte, table.concat
local select = select
local py, ready, costly, expect = core.py, core.ready, core.costly, core.expect
local text = core.text
local rawpcall = pcall

local MAX = core.max_text

local lib = {}
core.re = lib

local function search(s, regex, options, at)
    costly()
    ready()
    return py.regex(s, regex, options or "", at)
end

-- The names of the groups, "NUMBER NAME" a line.
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

-- Captures as a table: 0 is the whole, false what took no part.
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

local function start(ctx)
    if ctx == nil then
        return 1
    end
    expect(ctx, "table", 4, "match")
    local at = tonumber(ctx.pos) or 1
    return at < 1 and 1 or at
end

local function checked_texts(s, regex, options, name)
    s, regex = text(s, 1, name), text(regex, 2, name)
    if options ~= nil then
        options = text(options, 3, name)
    end
    return s, regex, options
end

local function matched(s, regex, options, ctx, into, first, behind, ...)
    if not first then
        return nil, behind
    end
    if ctx then
        ctx.pos = behind
    end
    return collect(into or {}, s, regex, options, first, behind, ...)
end

function lib.match(s, regex, options, ctx, into)
    s, regex, options = checked_texts(s, regex, options, "match")
    if into ~= nil then
        expect(into, "table", 5, "match")
    end
    return matched(s, regex, options, ctx, into, search(s, regex, options, start(ctx)))
end

local function found(ctx, group, first, behind, ...)
    if not first then
        return nil, nil, behind
    end
    if ctx then
        ctx.pos = behind
    end
    if group > 0 then
        first, behind = select(2 * group - 1, ...)
        if not first then
            return nil, nil, "nth out of bound"
        elseif first == 0 then
            return nil, nil
        end
    end
    return first, behind - 1
end

function lib.find(s, regex, options, ctx, group)
    s, regex, options = checked_texts(s, regex, options, "find")
    group = group and tonumber(group) or 0
    return found(ctx, group < 0 and 0 or group, search(s, regex, options, start(ctx)))
end

function lib.gmatch(s, regex, options)
    s, regex, options = checked_texts(s, regex, options, "gmatch")
    local at = 1
    local function step(first, behind, ...)
        if not first then
            at = #s + 2
            return nil, behind
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

-- $1, ${1}, $0, $& and $$ in a replacement.
local function expand(replacement, captures)
    local pieces, n, at = {}, 0, 1
    while true do
        local dollar = find(replacement, "$", at, true)
        if not dollar then
            pieces[n + 1] = sub(replacement, at)
            return concat(pieces)
        end
        pieces[n + 1] = sub(replacement, at, dollar - 1)
        n = n + 2
        local code = byte(replacement, dollar + 1)
        local first, last = find(replacement, "^%d+", dollar + 1)
        if code == 36 then
            pieces[n], at = "$", dollar + 2
        elseif first then
            pieces[n] = captures[tonumber(sub(replacement, first, last))] or ""
            at = last + 1
        elseif find(replacement, "^{%d+}", dollar + 1) then
            local stop = find(replacement, "}", dollar, true)
            pieces[n] = captures[tonumber(sub(replacement, dollar + 2, stop - 1))] or ""
            at = stop + 1
        else
            error("invalid capturing variable name found in \"" .. sub(replacement, 1, 100) .. "\"", 0)
        end
    end
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
    local plain = type(replacement) == "string" and not find(replacement, "$", 1, true)
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
            if type(replacement) == "string" then
                put(expand(replacement, captures))
            else
                local value = replacement(captures)
                local kind = type(value)
                if kind ~= "string" and kind ~= "number" then
                    error("string or number expected as the replacement, got " .. kind, 0)
                end
                put(tostring(value))
            end
        end
        at = behind
        if behind == first then
            -- Past an empty match, so that the next is another one.
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
        s, regex, options = checked_texts(s, regex, options, name)
        local kind = type(replacement)
        if kind == "number" then
            replacement = tostring(replacement)
        elseif kind ~= "string" and kind ~= "function" then
            error("bad argument #3 to '" .. name .. "' (string or function expected, got " .. kind .. ")", 2)
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
