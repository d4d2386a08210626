-- What every reply should say.  (Rules by what the server replied are for a Python hook:
-- nginx's rewrite phase comes before the reply.)
ngx.header["Strict-Transport-Security"] = "max-age=31536000"
ngx.header["X-Content-Type-Options"] = "nosniff"
ngx.header["Referrer-Policy"] = "strict-origin-when-cross-origin"
if string.sub(ngx.var.uri, 1, 8) == "/static/" then
    ngx.header["Cache-Control"] = "public, max-age=31536000, immutable"
end
