-- For an upstream with mode hash: the same session always gets the same server.
slardar.set_hash_key(ngx.var.cookie_session or ngx.var.remote_addr)
