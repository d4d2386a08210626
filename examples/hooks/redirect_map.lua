-- What has moved, and where to.
local moved = {
    ["/old"] = "/new",
    ["/about.html"] = "/about/",
    ["/shop"] = "https://shop.example.com/",
}

local target = moved[ngx.var.uri]
if target then
    return ngx.redirect(target .. ngx.var.is_args .. (ngx.var.args or ""), 301)
end
