-- The load: what wrk sends and what it says at the end.
--
--   wrk ... -s requests.lua URL -- PREFIX [close|keep-alive [HOST]]
--
-- Some thousand different requests are written before the clock starts, each
-- with its own path, query, cookies and 8 to 12 headers, and sent in turn.
-- The seed is fixed: every proxy gets the same ones.

local COUNT = 4096

local AGENTS = {
   "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
   "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
   "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
   "okhttp/4.12.0",
   "python-requests/2.32.3",
}
local LANGUAGES = { "en-US,en;q=0.9", "de-DE,de;q=0.8,en;q=0.5", "zh-CN,zh;q=0.9", "fr" }
local ACCEPTS = {
   "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
   "application/json, text/plain, */*",
   "*/*",
}
local WORDS = { "users", "orders", "cart", "search", "items", "static", "v1", "v2", "img", "reports" }

-- Each of these is there or not; the first of them, as many as the request wants.
local EXTRAS = {
   function() return "Cookie: " .. string.format("session=%08x%08x; theme=%s; _ga=GA1.2.%d.%d",
      math.random(2^30), math.random(2^30), math.random(2) == 1 and "dark" or "light",
      math.random(1e9), math.random(1e9)) end,
   function() return "Referer: https://bench.example.com/" .. WORDS[math.random(#WORDS)] end,
   function() return "Sec-Fetch-Mode: cors" end,
   function() return "Authorization: Bearer " .. string.rep(string.format("%08x", math.random(2^30)), 8) end,
   function() return "X-Request-Id: " .. string.format("%08x-%08x", math.random(2^30), math.random(2^30)) end,
   function() return "Cache-Control: no-cache" end,
   function() return "Origin: https://bench.example.com" end,
}

local function path(prefix)
   local parts = { prefix }
   for _ = 1, math.random(1, 3) do
      parts[#parts + 1] = "/" .. WORDS[math.random(#WORDS)]
   end
   parts[#parts + 1] = "/" .. math.random(100000)
   if math.random(2) == 1 then
      parts[#parts + 1] = string.format("?page=%d&q=%x&sort=%s",
         math.random(50), math.random(2^30), WORDS[math.random(#WORDS)])
   end
   return table.concat(parts)
end

local function head(prefix, connection, host)
   local lines = {
      "GET " .. path(prefix) .. " HTTP/1.1",
      "Host: " .. host,
      "User-Agent: " .. AGENTS[math.random(#AGENTS)],
      "Accept: " .. ACCEPTS[math.random(#ACCEPTS)],
      "Accept-Language: " .. LANGUAGES[math.random(#LANGUAGES)],
      "Accept-Encoding: gzip, deflate, br",
      "Connection: " .. connection,
   }
   -- The six headers above and two to six more.
   local from = math.random(#EXTRAS)
   for step = 1, math.random(2, 6) do
      lines[#lines + 1] = EXTRAS[(from + step) % #EXTRAS + 1]()
   end
   return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- Every proxy is here, whatever the host in the URL is, which TLS names as the server.
function wrk.resolve(host, service)
   wrk.addrs = wrk.lookup("127.0.0.1", service)
end

local heads, turn = {}, 0

function init(args)
   math.randomseed(20)
   local connection = args[2] == "close" and "close" or "keep-alive"
   for i = 1, COUNT do
      heads[i] = head(args[1], connection, args[3] or "bench.example.com")
   end
end

function request()
   turn = turn % COUNT + 1
   return heads[turn]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      'result {"requests": %d, "seconds": %.6f, "bytes": %d, "p50_ms": %.3f, "p99_ms": %.3f, '
      .. '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}}\n',
      summary.requests, summary.duration / 1e6, summary.bytes,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.connect, errors.read, errors.write, errors.status, errors.timeout))
end
