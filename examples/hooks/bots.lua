-- Robots that do not behave, and those that do not say who they are.
local BAD = [[\b(ahrefsbot|semrushbot|mj12bot|python-requests|scrapy)\b]]

local agent = ngx.var.http_user_agent
if not agent or ngx.re.find(agent, BAD, "ijo") then
    if ngx.var.uri ~= "/robots.txt" then
        return ngx.exit(ngx.HTTP_FORBIDDEN)
    end
end
