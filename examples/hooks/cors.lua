-- The API may be called from the pages of these sites.
local origins = {
    ["https://app.example.com"] = true,
    ["https://admin.example.com"] = true,
}

local origin = ngx.var.http_origin
if not origin or not origins[origin] then
    return
end
ngx.header["Access-Control-Allow-Origin"] = origin
ngx.header["Vary"] = "Origin"
if ngx.req.get_method() == "OPTIONS" and ngx.var.http_access_control_request_method then
    ngx.header["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
    ngx.header["Access-Control-Allow-Headers"] = "Authorization, Content-Type"
    ngx.header["Access-Control-Max-Age"] = "600"
    return ngx.exit(ngx.HTTP_NO_CONTENT)
end
