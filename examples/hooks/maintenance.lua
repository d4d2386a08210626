-- Closed for work, but not for us.
local staff = { ["192.0.2.10"] = true, ["192.0.2.11"] = true }

if not staff[ngx.var.remote_addr] and ngx.var.uri ~= "/health" then
    ngx.status = ngx.HTTP_SERVICE_UNAVAILABLE
    ngx.header["Content-Type"] = "text/html; charset=utf-8"
    ngx.header["Retry-After"] = "300"
    ngx.say("<!doctype html>\n<title>Back soon</title>")
    ngx.say("<h1>We are back in a few minutes.</h1>")
    return ngx.exit(ngx.HTTP_SERVICE_UNAVAILABLE)
end
