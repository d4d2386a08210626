-- The back office is for these networks.
local bit = require "bit"

local function number(address)
    local a, b, c, d = string.match(address, "^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    return a and ((a * 256 + b) * 256 + c) * 256 + d
end

local allowed = { { number("10.0.0.0"), 8 }, { number("192.0.2.128"), 25 } }

if string.sub(ngx.var.uri, 1, 6) == "/admin" then
    local address = number(ngx.var.remote_addr)
    for _, network in ipairs(allowed) do
        local shift = 32 - network[2]
        if address and bit.rshift(address, shift) == bit.rshift(network[1], shift) then
            return
        end
    end
    return ngx.exit(ngx.HTTP_FORBIDDEN)
end
