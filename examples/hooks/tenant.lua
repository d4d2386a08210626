-- acme.example.com is the tenant acme: told to the server, whatever the client says of it.
local tenant = string.match(ngx.var.host, "^([^.]+)%.example%.com$")
if not tenant or tenant == "www" then
    ngx.req.clear_header("X-Tenant")
else
    ngx.req.set_header("X-Tenant", tenant)
end
