-- Pictures are for our own pages: a Referer from elsewhere gets none.
local ours = { "example.com", "example.org" }
local pictures = { jpg = true, jpeg = true, png = true, webp = true, mp4 = true }

local referer = ngx.var.http_referer
local ending = string.match(string.lower(ngx.var.uri), "%.(%w+)$")
if referer and pictures[ending or ""] then
    local host = string.lower(string.match(referer, "^%w+://([^/:]+)") or "")
    for _, name in ipairs(ours) do
        if host == name or string.sub(host, -#name - 1) == "." .. name then
            return
        end
    end
    return ngx.exit(ngx.HTTP_FORBIDDEN)
end
