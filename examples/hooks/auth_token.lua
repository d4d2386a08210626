-- Only who knows the token gets in.  The digest is kept here and not the token itself.
local tokens = {
    -- base64 of sha1 of "letmein", and who has it
    ["t6h1/B6iKLkGEEG3zsS9PFKrPOM="] = "ops",
}

local token = string.match(ngx.var.http_authorization or "", "^Bearer (.+)$")
local owner = token and tokens[ngx.encode_base64(ngx.sha1_bin(token))]
if not owner then
    ngx.status = ngx.HTTP_UNAUTHORIZED
    ngx.header["WWW-Authenticate"] = "Bearer"
    ngx.say("a token, please")
    return ngx.exit(ngx.HTTP_UNAUTHORIZED)
end
ngx.req.set_header("X-User", owner)
ngx.req.clear_header("Authorization")
