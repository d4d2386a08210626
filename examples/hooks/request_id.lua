-- An id that we have made ourselves: a client's own is kept beside it, if it is one.
local theirs = ngx.var.http_x_request_id
if theirs and ngx.re.find(theirs, "^[A-Za-z0-9-]{8,64}$", "jo") then
    ngx.req.set_header("X-Client-Request-Id", theirs)
end
local made = string.format("%.6f-%s", ngx.now(), ngx.var.remote_addr)
ngx.req.set_header("X-Request-Id", made)
ngx.header["X-Request-Id"] = made
