-- The country by the client's network, for servers that want to know.
local bit = require "bit"

local function number(address)
    local a, b, c, d = string.match(address, "^(%d+)%.(%d+)%.(%d+)%.(%d+)$")
    return a and ((a * 256 + b) * 256 + c) * 256 + d
end

-- Network, length of its prefix, country.
local networks = {
    { number("192.0.2.0"), 24, "DE" },
    { number("198.51.100.0"), 24, "FR" },
}

local country = "ZZ"
local address = number(ngx.var.remote_addr)
if address then
    for _, network in ipairs(networks) do
        local shift = 32 - network[2]
        if bit.rshift(address, shift) == bit.rshift(network[1], shift) then
            country = network[3]
        end
    end
elseif string.match(ngx.var.remote_addr, "^2001:db8:") then
    country = "JP"
end
ngx.req.set_header("X-Country", country)
