-- Uploads may be large, everything else may not.
local limit = 64 * 1024
if string.sub(ngx.var.uri, 1, 8) == "/upload/" then
    limit = 100 * 1024 * 1024
end

local length = tonumber(ngx.var.http_content_length)
if not length then
    if ngx.var.http_transfer_encoding then
        return ngx.exit(411)
    end
elseif length > limit then
    return ngx.exit(413)
end
