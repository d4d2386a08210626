"""What becomes of HAProxy's keywords that are not turned into settings.

A keyword that is neither here nor read by the modules beside this one is listed all the same.
"""

from __future__ import annotations

__all__ = ["BLOCKS", "INSTEAD", "OWN", "OWN_OF_BINDS", "OWN_OF_SERVERS"]

#: Sections whose lines count one by one.
BLOCKS = frozenset({"global", "defaults", "frontend", "backend", "listen"})

#: Keywords without a meaning here: slardar does this by itself, in its own way, or has nothing
#: that could be set.
OWN = frozenset(
    {
        *("daemon", "user", "group", "uid", "gid", "chroot", "pidfile", "nbproc", "nbthread"),
        *(
            "cpu-map",
            "thread-groups",
            "master-worker",
            "node",
            "description",
            "localpeer",
            "zero-warning",
        ),
        *("ulimit-n", "maxpipes", "noepoll", "nosplice", "busy-polling", "hard-stop-after"),
        *("ssl-default-bind-options", "ssl-default-bind-ciphersuites", "ssl-server-verify"),
        *("ssl-default-server-ciphersuites", "ssl-default-server-options", "ssl-dh-param-file"),
        *("ssl-default-server-ciphers", "tune.ssl.default-dh-param", "tune.ssl.cachesize"),
        *("tune.bufsize", "tune.maxrewrite", "tune.maxaccept", "spread-checks", "stats socket"),
        *("stats timeout", "id", "mode", "http-reuse", "option redispatch", "option forwardfor"),
        *("option httplog", "option tcplog", "option dontlognull", "option dontlog-normal"),
        *("option http-keep-alive", "option http-server-close", "option httpclose"),
        *("option http-use-htx", "option http-no-delay", "option http-buffer-request"),
        *("option prefer-last-server", "option splice-auto", "option splice-response"),
        *("option splice-request", "option tcp-smart-accept", "option tcp-smart-connect"),
        *(
            "option tcpka",
            "option clitcpka",
            "option srvtcpka",
            "option contstats",
            "option logasap",
        ),
        *("option log-health-checks", "option log-separate-errors", "option socket-stats"),
        *("option abortonclose", "option http-ignore-probes", "option accept-invalid-http-request"),
        *(
            "option nolinger",
            "option checkcache",
            "no option http-server-close",
            "option h1-case-adjust-bogus-client",
        ),
        *(
            "backlog",
            "grace",
            "monitor-net",
            "unique-id-format",
            "unique-id-header",
            "disabled-on-error",
        ),
    }
)
#: The same of a ``bind`` or ``server``: words, and how many words follow each.
OWN_OF_BINDS = {
    **dict.fromkeys(("v4v6", "v6only", "transparent", "defer-accept", "tfo", "ssl"), 0),
    **dict.fromkeys(("strict-sni", "prefer-client-ciphers", "no-sslv3", "no-tlsv10"), 0),
    **dict.fromkeys(("no-tlsv12", "no-tlsv13", "force-tlsv12", "force-tlsv13", "no-alpn"), 0),
    **dict.fromkeys(("allow-0rtt", "no-ca-names", "tls-tickets"), 0),
    **dict.fromkeys(("sigalgs", "client-sigalgs", "ocsp-update", "ktls", "tcp-ut", "cc"), 1),
    **dict.fromkeys(("no-tlsv11", "no-tls-tickets", "generate-certificates"), 0),
    **dict.fromkeys(("name", "id", "backlog", "maxconn", "mss", "nice", "process", "thread"), 1),
    **dict.fromkeys(("user", "group", "mode", "uid", "gid", "level", "shards", "curves"), 1),
    **dict.fromkeys(("alpn", "npn", "ciphersuites", "ecdhe", "ssl-max-ver", "tls-ticket-keys"), 1),
}
OWN_OF_SERVERS = {
    **dict.fromkeys(("check-ssl", "no-check-ssl", "no-ssl", "enabled", "no-backup", "no-check"), 0),
    **dict.fromkeys(("no-send-proxy", "no-send-proxy-v2", "ssl-reuse", "tfo", "no-tfo"), 0),
    **dict.fromkeys(("id", "init-addr", "resolvers", "resolve-prefer", "resolve-opts"), 1),
    **dict.fromkeys(("pool-max-conn", "pool-purge-delay", "pool-low-conn", "pool-min-conn"), 1),
    **dict.fromkeys(("check-sni", "ciphers", "ciphersuites", "ssl-min-ver", "ssl-max-ver"), 1),
    **dict.fromkeys(("fastinter", "downinter", "max-reuse"), 1),
}

_HOOK = "a hook can do this (docs/hooks.md)"
_HEADER = "a hook sets headers: request.headers (docs/hooks-python.md)"
_REPLY = "a hook that sees replies (on_response) can do this (docs/hooks.md)"
_LOG = "access_log of slardar.yaml (docs/access-log.md)"
_STICKY = "mode: sticky of an upstream (docs/balancers.md#sticky)"

#: Why a keyword is listed, and the way of slardar where there is one.
INSTEAD = {
    **dict.fromkeys(("http-request set-header", "http-request add-header"), _HEADER),
    **dict.fromkeys(("http-request del-header", "http-request replace-header"), _HEADER),
    **dict.fromkeys(("http-request set-var", "http-request capture", "capture"), _HOOK),
    **dict.fromkeys(("http-request track-sc0", "http-request lua", "monitor-uri"), _HOOK),
    **dict.fromkeys(("http-response set-header", "http-response add-header"), _REPLY),
    **dict.fromkeys(("http-response del-header", "http-response replace-header"), _REPLY),
    **dict.fromkeys(("http-response deny", "errorfile", "errorloc", "errorloc302"), _REPLY),
    **dict.fromkeys(("errorloc303", "http-error", "errorfiles"), _REPLY),
    **dict.fromkeys(("log", "log-format", "log-tag", "log-send-hostname", "no log"), _LOG),
    **dict.fromkeys(
        ("cookie", "stick-table", "stick on", "stick store-request", "appsession"), _STICKY
    ),
    **dict.fromkeys(("stick match", "option persist", "force-persist"), _STICKY),
    **dict.fromkeys(
        (
            "stats enable",
            "stats uri",
            "stats auth",
            "stats refresh",
            "stats admin",
            "stats hide-version",
        ),
        "the dashboard and GET /status of the control channel (docs/dashboard.md)",
    ),
    **dict.fromkeys(
        ("stats show-legends", "stats realm", "stats show-node"),
        "the dashboard (docs/dashboard.md)",
    ),
    **dict.fromkeys(
        ("compression algo", "compression type", "compression offload"),
        "slardar does not compress: let the servers do it",
    ),
    **dict.fromkeys(
        ("option mysql-check", "option redis-check"),
        "typ of an upstream (docs/health.md#heartbeats)",
    ),
    **dict.fromkeys(
        (
            "option tcp-check",
            "tcp-check connect",
            "tcp-check send",
            "tcp-check expect",
            "option ssl-hello-chk",
        ),
        "heartbeats of typ general connect; a probe of your own asks more (docs/health.md)",
    ),
    **dict.fromkeys(
        ("timeout tunnel", "timeout client-fin", "timeout server-fin", "timeout tarpit"),
        "slardar has no time-out of this kind",
    ),
    **dict.fromkeys(
        ("timeout connect", "timeout server", "timeout queue", "retries", "retry-on", "balance"),
        "nothing that is taken over uses it",
    ),
    **dict.fromkeys(
        (
            "default-server",
            "option httpchk",
            "http-check send",
            "http-check expect",
            "option allbackups",
        ),
        "nothing that is taken over uses it",
    ),
    **dict.fromkeys(
        ("acl", "timeout client", "timeout http-request"), "nothing that is taken over uses it"
    ),
    "filter": "slardar has no filters: a hook can do this (docs/hooks.md)",
    "rate-limit": "slardar does not limit rates",
    "server-template": "a service: dns_service lists the servers (docs/services.md)",
    "use-server": "slardar's balancers choose the server; a hook can choose a named cluster",
    "fullconn": "max_conns of servers, and queue of an upstream (docs/upstreams.md#queue)",
    "option originalto": "slardar does not send this header",
    "option http_proxy": "slardar is no forward proxy",
    "option transparent": "slardar is no transparent proxy",
    "dispatch": "an upstream has servers",
    "source": "connections to servers begin at the address that the system chooses",
    "peers": "nodes share a store (docs/stores.md)",
    "resolvers": "slardar asks the name servers of /etc/resolv.conf",
    "nameserver": "slardar asks the name servers of /etc/resolv.conf",
    "userlist": _HOOK,
    "lua-load": "hooks in Lua (docs/hooks-lua.md), with the API of ngx_lua",
    "setenv": "slardar reads no variables in its file",
    "presetenv": "slardar reads no variables in its file",
    "mailers": "alerts of Prometheus (docs/metrics.md)",
    "email-alert": "alerts of Prometheus (docs/metrics.md)",
    "cache": "slardar is no cache",
    "ssl-default-bind-ciphers": "tls.ciphers (docs/tls.md)",
}
