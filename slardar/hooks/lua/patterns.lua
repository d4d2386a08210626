-- Lua's patterns, matched in Lua.
--
-- The functions of Lua's library are C.  There are no looks at the budget within them, and a
-- pattern such as ("a*"):rep(10) keeps one busy for minutes.  core.cheap says which calls take
-- a limited number of steps.  All others use the matcher here, which has the same results.  It
-- is slower, but a look can stop it.

local core = ...

local error, next, setmetatable = error, next, setmetatable
local byte, sub, find, char = string.byte, string.sub, string.find, string.char

-- The most steps that a function of C may take: about 2 ms (measured).
local STEPS = 100000
local MAX_CAPTURES = 32

-- The characters of each class, by its letter, as Lua's library sees them.
local classes, any = {}, {}
for code = 0, 255 do
    any[code] = true
end
for letter in ("acdlpsuwxz"):gmatch(".") do
    local inside, outside = {}, {}
    for code = 0, 255 do
        if find(char(code), "%" .. letter) then
            inside[code] = true
        else
            outside[code] = true
        end
    end
    classes[letter], classes[letter:upper()] = inside, outside
end
-- Lua 5.1 has no %g, but some versions of LuaJIT do.
if find("a", "%g") and not find(" ", "%g") then
    local inside, outside = {}, {}
    for code = 0, 255 do
        if find(char(code), "%g") then
            inside[code] = true
        else
            outside[code] = true
        end
    end
    classes.g, classes.G = inside, outside
end

local singles = {}
for code = 0, 255 do
    singles[code] = { [code] = true }
end

local function escaped(code)
    return classes[char(code)] or singles[code]
end

-- Parse the set that begins with the "[" at `at`.  Returns the set and the place behind it.
local function parse_set(p, at)
    local i, negated = at + 1, false
    if byte(p, i) == 94 then
        negated, i = true, i + 1
    end
    -- Find the end first: the first character of the set never closes it.
    local last = i
    repeat
        local code = byte(p, last)
        if not code then
            return nil, "malformed pattern (missing ']')"
        end
        last = last + 1
        if code == 37 then
            if not byte(p, last) then
                return nil, "malformed pattern (missing ']')"
            end
            last = last + 1
        end
    until byte(p, last) == 93
    local set = {}
    while i < last do
        local code = byte(p, i)
        if code == 37 then
            for member in next, escaped(byte(p, i + 1)) do
                set[member] = true
            end
            i = i + 2
        elseif byte(p, i + 1) == 45 and i + 2 < last then
            for member = code, byte(p, i + 2) do
                set[member] = true
            end
            i = i + 3
        else
            set[code] = true
            i = i + 1
        end
    end
    if negated then
        local others = {}
        for code = 0, 255 do
            if not set[code] then
                others[code] = true
            end
        end
        set = others
    end
    return set, last + 1
end

-- Kinds of nodes.
local ONE, OPEN, CLOSE, PLACE, BACK, BALANCE, FRONTIER, FINISH, BAD = 1, 2, 3, 4, 5, 6, 7, 8, 9

-- The nodes of a pattern from `i` on.  A mistake in the pattern becomes a node, too: it
-- matters only if a match gets there.
local function parse(p, i)
    local nodes, n, size = {}, 0, #p
    local function add(node)
        n = n + 1
        nodes[n] = node
    end
    while i <= size do
        local code = byte(p, i)
        local set
        if code == 40 then -- (
            if byte(p, i + 1) == 41 then
                add({ PLACE })
                i = i + 2
            else
                add({ OPEN })
                i = i + 1
            end
        elseif code == 41 then
            add({ CLOSE })
            i = i + 1
        elseif code == 36 and i == size then -- $
            add({ FINISH })
            i = i + 1
        elseif code == 37 then
            local following = byte(p, i + 1)
            if not following then
                add({ BAD, "malformed pattern (ends with '%')" })
                return nodes
            elseif following == 98 then -- %b
                if not byte(p, i + 3) then
                    add({ BAD, "unbalanced pattern" })
                    return nodes
                end
                add({ BALANCE, byte(p, i + 2), byte(p, i + 3) })
                i = i + 4
            elseif following == 102 then -- %f
                if byte(p, i + 2) ~= 91 then
                    add({ BAD, "missing '[' after '%f' in pattern" })
                    return nodes
                end
                local members, behind = parse_set(p, i + 2)
                if not members then
                    add({ BAD, behind })
                    return nodes
                end
                add({ FRONTIER, members })
                i = behind
            elseif following >= 48 and following <= 57 then
                add({ BACK, following - 48 })
                i = i + 2
            else
                set, i = escaped(following), i + 2
            end
        elseif code == 91 then
            local members, behind = parse_set(p, i)
            if not members then
                add({ BAD, behind })
                return nodes
            end
            set, i = members, behind
        elseif code == 46 then
            set, i = any, i + 1
        else
            set, i = singles[code], i + 1
        end
        if set then
            local suffix = byte(p, i)
            if suffix == 42 or suffix == 43 or suffix == 45 or suffix == 63 then
                add({ ONE, set, suffix })
                i = i + 1
            else
                add({ ONE, set })
            end
        end
    end
    return nodes
end

-- Match the nodes from `k` on at the place `i` of `s`.  Returns the place behind the match, or
-- nil.  `from` gets the beginnings of captures, and `length` their lengths: -1 for a capture
-- that is open, -2 for a place.
local function match(s, nodes, from, length, i, k)
    while true do
        local node = nodes[k]
        if not node then
            return i
        end
        local kind = node[1]
        if kind == ONE then
            local set, suffix = node[2], node[3]
            if not suffix then
                if not set[byte(s, i) or -1] then
                    return nil
                end
                i = i + 1
            elseif suffix == 63 then -- ?
                if set[byte(s, i) or -1] then
                    local found = match(s, nodes, from, length, i + 1, k + 1)
                    if found then
                        return found
                    end
                end
            elseif suffix == 45 then -- -
                while true do
                    local found = match(s, nodes, from, length, i, k + 1)
                    if found then
                        return found
                    end
                    if not set[byte(s, i) or -1] then
                        return nil
                    end
                    i = i + 1
                end
            else
                local last = i
                while set[byte(s, last) or -1] do
                    last = last + 1
                end
                if suffix == 43 then
                    i = i + 1
                end
                for stop = last, i, -1 do
                    local found = match(s, nodes, from, length, stop, k + 1)
                    if found then
                        return found
                    end
                end
                return nil
            end
        elseif kind == OPEN or kind == PLACE then
            local level = length.n + 1
            if level > MAX_CAPTURES then
                error("too many captures", 0)
            end
            length.n, from[level], length[level] = level, i, kind == PLACE and -2 or -1
            local found = match(s, nodes, from, length, i, k + 1)
            if not found then
                length.n = level - 1
            end
            return found
        elseif kind == CLOSE then
            local level = length.n
            while level > 0 and length[level] ~= -1 do
                level = level - 1
            end
            if level == 0 then
                error("invalid pattern capture", 0)
            end
            length[level] = i - from[level]
            local found = match(s, nodes, from, length, i, k + 1)
            if not found then
                length[level] = -1
            end
            return found
        elseif kind == FINISH then
            return i == #s + 1 and i or nil
        elseif kind == BACK then
            local level = node[2]
            if level < 1 or level > length.n or length[level] == -1 then
                error("invalid capture index", 0)
            end
            local size = length[level]
            if size < 0 then
                return nil
            end
            if sub(s, i, i + size - 1) ~= sub(s, from[level], from[level] + size - 1) then
                return nil
            end
            i = i + size
        elseif kind == BALANCE then
            local first, last = node[2], node[3]
            if byte(s, i) ~= first then
                return nil
            end
            local open, at = 1, i + 1
            while true do
                local code = byte(s, at)
                if not code then
                    return nil
                elseif code == last then
                    open = open - 1
                    if open == 0 then
                        break
                    end
                elseif code == first then
                    open = open + 1
                end
                at = at + 1
            end
            i = at + 1
        elseif kind == FRONTIER then
            local set = node[2]
            local before = i > 1 and byte(s, i - 1) or 0
            if set[before] or not set[byte(s, i) or 0] then
                return nil
            end
        else
            error(node[2], 0)
        end
        k = k + 1
    end
end

-- A capture as a value.
local function capture(s, from, length, level)
    local size = length[level]
    if size == -2 then
        return from[level]
    elseif size == -1 then
        error("unfinished capture", 0)
    end
    return sub(s, from[level], from[level] + size - 1)
end

-- A matcher of `p`: a function of a subject and the place to begin at.  It returns the first
-- and the last place of the first match, or nil; then `from` and `length` have the captures.
local function matcher(p, anchors)
    -- As in Lua 5.1, a zero ends a pattern, and %z stands for a zero in it.
    local zero = find(p, "\0", 1, true)
    if zero then
        p = sub(p, 1, zero - 1)
    end
    local anchored = anchors and byte(p, 1) == 94
    local nodes = parse(p, anchored and 2 or 1)
    local from, length = {}, { n = 0 }
    -- The set that a match must begin with; all other places are skipped.
    local first = nodes[1]
    local set = first and first[1] == ONE and (not first[3] or first[3] == 43) and first[2]
    return function(s, i)
        for at = i, anchored and i or #s + 1 do
            if not set or set[byte(s, at) or -1] then
                length.n = 0
                local stop = match(s, nodes, from, length, at, 1)
                if stop then
                    return at, stop - 1
                end
            end
        end
        return nil
    end, from, length, anchored
end

core.matcher, core.capture = matcher, capture

-- The longest subject for which `p` takes at most STEPS steps, by pattern.  Each quantifier
-- chooses a place, and so does a pattern without an anchor.  With w choices there are at most
-- (n+w)^w/w! ways.  A quantifier at the very end does not count, since the match is complete
-- there.  A step takes longer if a set is longer.
local longest = setmetatable({}, { __mode = "k" })
local known = 0
local ending = { [42] = true, [43] = true, [45] = true, [63] = true }

local function measure(p)
    local ways, set, factor = 0, false, 1
    if byte(p, 1) ~= 94 then
        ways = 1
    end
    for i = 1, #p do
        local code = byte(p, i)
        if ending[code] then
            ways = ways + 1
        elseif code == 37 then
            local following = byte(p, i + 1) or 0
            if following == 98 or following >= 48 and following <= 57 then
                ways = ways + 1
            end
        elseif code == 91 then
            set = true
        end
    end
    local last = #p
    while byte(p, last) == 41 do
        last = last - 1
    end
    if ending[byte(p, last)] and byte(p, last - 1) ~= 37 then
        ways = ways - 1
    end
    if ways > 12 then
        return 0
    end
    local steps = STEPS / (set and 1 + #p / 10 or 1)
    for i = 2, ways do
        factor = factor * i
    end
    if ways == 0 then
        return steps
    end
    return (steps * factor) ^ (1 / ways) - ways
end

-- Whether the function of Lua's library may be called for a subject of `size` bytes.
function core.cheap(p, size)
    local limit = longest[p]
    if not limit then
        if #p > 200 then
            return false
        end
        limit = measure(p)
        known = known + 1
        if known > 1000 then
            longest, known = {}, 0
        end
        longest[p] = limit
    end
    if size > 100 then
        core.costly()
    end
    return size <= limit
end
