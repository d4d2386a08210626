-- Headers by which only we speak to our servers.  (What a server says is not to be seen in
-- nginx's rewrite phase; a Python hook can remove that too.)
for _, name in ipairs({ "X-User", "X-Tenant", "X-Admin", "X-Debug" }) do
    ngx.req.clear_header(name)
end
