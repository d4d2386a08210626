-- For an upstream with named clusters: the reader's own data centre first, and the only one
-- that writes for what changes something.
local home = { de = "fra", fr = "fra", us = "nyc" }

local method = ngx.req.get_method()
if method ~= "GET" and method ~= "HEAD" then
    slardar.set_cluster_key("fra")
    return
end
local first = home[string.lower(ngx.var.http_x_country or "")] or "nyc"
slardar.set_cluster_key({ first, first == "nyc" and "fra" or "nyc" })
