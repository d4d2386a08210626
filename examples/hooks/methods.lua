-- Nothing is deleted from outside.
local allowed = { GET = true, HEAD = true, POST = true, OPTIONS = true }

if not allowed[ngx.req.get_method()] then
    ngx.status = ngx.HTTP_NOT_ALLOWED
    ngx.header["Allow"] = "GET, HEAD, OPTIONS, POST"
    ngx.say("not here")
    return ngx.exit(ngx.HTTP_NOT_ALLOWED)
end
