-- /files/a.zip?expires=1767225600&sign=...: the link is good until then, for that path only.
local SECRET = "change me"

local function hex(binary)
    return (string.gsub(binary, ".", function(letter)
        return string.format("%02x", string.byte(letter))
    end))
end

local args = ngx.req.get_uri_args()
local expires = tonumber(args.expires)
if not expires or expires < ngx.time() then
    return slardar.exit({ code = 410, msg = "the link has expired" })
end
local path = string.match(ngx.var.request_uri, "^[^?]*")
if args.sign ~= hex(ngx.hmac_sha1(SECRET, path .. "\n" .. args.expires)) then
    return slardar.exit(errno.HTTP_FORBIDDEN)
end
args.expires = nil
args.sign = nil
ngx.req.set_uri_args(args)
