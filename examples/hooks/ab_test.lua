-- One in five visitors sees variant b, and always the same one: the cookie is theirs, or made
-- of their address and browser, and sent with the reply.
local SHARE = 20

local variant = ngx.var.cookie_ab
if variant ~= "a" and variant ~= "b" then
    local text = ngx.var.remote_addr .. (ngx.var.http_user_agent or "")
    local number = tonumber(string.sub(ngx.md5(text), 1, 8), 16) % 100
    variant = number < SHARE and "b" or "a"
    ngx.header["Set-Cookie"] = "ab=" .. variant .. "; Path=/; Max-Age=2592000"
end
ngx.req.set_header("X-Variant", variant)
