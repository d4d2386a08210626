-- /v1/users/7 is what the server knows as /users/7?api=1; /blog goes to another upstream.
local found = ngx.re.match(ngx.var.uri, "^/v([0-9]+)(/.*)$", "jo")
if found then
    ngx.req.set_uri(found[2])
    local more = ngx.var.is_args == "?" and ngx.var.args .. "&" or ""
    ngx.req.set_uri_args(more .. "api=" .. found[1])
elseif ngx.var.uri == "/blog" or string.sub(ngx.var.uri, 1, 6) == "/blog/" then
    local rest = string.sub(ngx.var.uri, 6)
    ngx.req.set_uri(rest == "" and "/" or rest)
    ngx.req.set_header("Host", "blog.example.com")
end
