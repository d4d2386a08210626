"""What becomes of nginx's directives that are not turned into settings.

A directive that is neither here nor read by the modules beside this one is listed all the same.
"""

from __future__ import annotations

__all__ = ["BLOCKS", "HOOK", "INSTEAD", "OFF", "OWN", "OWN_OF_UPSTREAMS"]

#: Blocks whose directives count one by one.
BLOCKS = frozenset({"http", "server", "location", "upstream", "events"})

#: Directives without a meaning here: slardar does this by itself, in its own way, or has nothing
#: that could be set.
OWN = frozenset(
    {
        "absolute_redirect",
        "accept_mutex",
        "accept_mutex_delay",
        "chunked_transfer_encoding",
        "client_body_buffer_size",
        "client_body_in_file_only",
        "client_body_in_single_buffer",
        "client_body_temp_path",
        "client_header_buffer_size",
        "connection_pool_size",
        "daemon",
        "debug_connection",
        "debug_points",
        "default_type",
        "env",
        "epoll_events",
        "etag",
        "fastcgi_temp_path",
        "http2_body_preread_size",
        "http2_chunk_size",
        "http2_max_concurrent_streams",
        "http2_recv_buffer_size",
        "ignore_invalid_headers",
        "keepalive_disable",
        "keepalive_requests",
        "keepalive_time",
        "lingering_close",
        "lingering_time",
        "lock_file",
        "log_not_found",
        "log_subrequest",
        "map_hash_bucket_size",
        "map_hash_max_size",
        "master_process",
        "max_ranges",
        "merge_slashes",
        "multi_accept",
        "open_file_cache",
        "open_file_cache_errors",
        "open_file_cache_min_uses",
        "open_file_cache_valid",
        "output_buffers",
        "pcre_jit",
        "pid",
        "port_in_redirect",
        "postpone_output",
        "proxy_buffer_size",
        "proxy_buffering",
        "proxy_buffers",
        "proxy_busy_buffers_size",
        "proxy_headers_hash_bucket_size",
        "proxy_headers_hash_max_size",
        "proxy_http_version",
        "proxy_max_temp_file_size",
        "proxy_request_buffering",
        "proxy_send_lowat",
        "proxy_socket_keepalive",
        "proxy_ssl_session_reuse",
        "proxy_temp_file_write_size",
        "proxy_temp_path",
        "real_ip_recursive",
        "recursive_error_pages",
        "request_pool_size",
        "reset_timedout_connection",
        "scgi_temp_path",
        "sendfile",
        "sendfile_max_chunk",
        "server_name_in_redirect",
        "server_names_hash_bucket_size",
        "server_names_hash_max_size",
        "server_tokens",
        "ssl_buffer_size",
        "ssl_dhparam",
        "ssl_early_data",
        "ssl_ecdh_curve",
        "ssl_prefer_server_ciphers",
        "ssl_session_cache",
        "ssl_session_ticket_key",
        "ssl_session_tickets",
        "ssl_session_timeout",
        "ssl_stapling",
        "ssl_stapling_verify",
        "ssl_trusted_certificate",
        "tcp_nodelay",
        "tcp_nopush",
        "thread_pool",
        "timer_resolution",
        "types",
        "types_hash_bucket_size",
        "types_hash_max_size",
        "use",
        "user",
        "uwsgi_temp_path",
        "variables_hash_bucket_size",
        "variables_hash_max_size",
        "worker_aio_requests",
        "worker_cpu_affinity",
        "worker_priority",
        "worker_rlimit_core",
        "worker_rlimit_nofile",
        "working_directory",
    }
)

#: Directives without a meaning here if they are ``off``.
OFF = frozenset(
    {
        *("access_log", "auth_basic", "auth_request", "autoindex", "gzip", "gzip_static", "http2"),
        *("proxy_cache", "proxy_intercept_errors", "proxy_redirect", "ssl", "ssl_verify_client"),
    }
)

#: The same within an ``upstream``.
OWN_OF_UPSTREAMS = frozenset({"zone", "keepalive_requests", "keepalive_time"})

#: What keeps requests back or changes them.
HOOK = "a hook can do this (docs/hooks.md)"
_REPLY = "a hook that sees replies (on_response) can do this (docs/hooks.md)"
_FILES = "slardar serves no files: a server of your own does"
_LIMIT = "slardar does not limit rates; max_conns and queue of an upstream bound what is under way"
_CACHE = "slardar is no cache"
_COMPRESS = "slardar does not compress: let the servers do it"
_LOG = "access_log of slardar.yaml (docs/access-log.md)"
_OTHER = "slardar speaks HTTP/1.1 to servers, and nothing else"
_UNUSED = "nothing that is taken over uses it"

#: Why a directive is listed, and the way of slardar where there is one.
INSTEAD = {
    **dict.fromkeys(("rewrite", "set", "if", "return", "limit_except", "map", "geo"), HOOK),
    **dict.fromkeys(("split_clients", "auth_basic", "auth_basic_user_file", "auth_request"), HOOK),
    **dict.fromkeys(("allow", "deny", "satisfy", "valid_referers", "secure_link", "mirror"), HOOK),
    **dict.fromkeys(("proxy_set_body", "proxy_method", "proxy_pass_request_headers"), HOOK),
    **dict.fromkeys(("proxy_pass_request_body", "proxy_cookie_domain", "break"), HOOK),
    **dict.fromkeys(("add_header", "expires", "proxy_hide_header", "proxy_redirect"), _REPLY),
    **dict.fromkeys(("proxy_cookie_path", "proxy_cookie_flags", "error_page"), _REPLY),
    **dict.fromkeys(("proxy_intercept_errors", "sub_filter", "add_trailer"), _REPLY),
    **dict.fromkeys(("root", "alias", "index", "try_files", "autoindex"), _FILES),
    **dict.fromkeys(("limit_req", "limit_conn"), f"requests for it get 502: {_LIMIT}"),
    **dict.fromkeys(("limit_req_zone", "limit_req_status", "limit_rate"), _LIMIT),
    **dict.fromkeys(("limit_conn_zone", "limit_conn_status"), _LIMIT),
    **dict.fromkeys(("gzip", "gzip_types", "gzip_vary", "gzip_proxied", "gunzip"), _COMPRESS),
    **dict.fromkeys(
        ("gzip_comp_level", "gzip_min_length", "gzip_static", "gzip_buffers"), _COMPRESS
    ),
    **dict.fromkeys(("gzip_http_version", "gzip_disable"), _COMPRESS),
    **dict.fromkeys(("proxy_cache", "proxy_cache_path", "proxy_cache_key", "proxy_store"), _CACHE),
    **dict.fromkeys(("proxy_cache_valid", "proxy_cache_bypass", "proxy_no_cache"), _CACHE),
    **dict.fromkeys(("proxy_cache_use_stale", "proxy_cache_lock"), _CACHE),
    **dict.fromkeys(("access_log", "log_format", "open_log_file_cache"), _LOG),
    **dict.fromkeys(("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass"), _OTHER),
    **dict.fromkeys(("memcached_pass", "mail"), _OTHER),
    **dict.fromkeys(("proxy_connect_timeout", "proxy_read_timeout", "proxy_send_timeout"), _UNUSED),
    **dict.fromkeys(("proxy_next_upstream", "proxy_next_upstream_tries"), _UNUSED),
    **dict.fromkeys(("proxy_next_upstream_timeout", "proxy_set_header", "proxy_pass"), _UNUSED),
    **dict.fromkeys(("proxy_ssl_verify", "proxy_ssl_name", "proxy_ssl_certificate"), _UNUSED),
    **dict.fromkeys(("proxy_ssl_certificate_key", "proxy_ssl_trusted_certificate"), _UNUSED),
    **dict.fromkeys(("ssl_certificate", "ssl_certificate_key", "ssl_client_certificate"), _UNUSED),
    **dict.fromkeys(("ssl_verify_client", "client_max_body_size", "keepalive_timeout"), _UNUSED),
    **dict.fromkeys(("ssl_protocols", "ssl_ciphers"), _UNUSED),
    "error_log": "slardar's own log goes where twistd writes it (docs/running.md#its-own-log)",
    "resolver": "slardar asks the name servers of /etc/resolv.conf",
    "resolver_timeout": "slardar asks the name servers of /etc/resolv.conf",
    "proxy_bind": "connections to servers begin at the address that the system chooses",
    "proxy_ssl_protocols": "slardar speaks TLS 1.2 and 1.3 to servers",
    "proxy_ssl_ciphers": "slardar offers its own list to servers",
    "proxy_ssl_crl": "slardar reads no lists of revoked certificates",
    "proxy_ssl_verify_depth": "slardar has OpenSSL's limit",
    "proxy_ssl_password_file": "slardar takes no keys with a password",
    "ssl_password_file": "slardar takes no keys with a password",
    "ssl_crl": "slardar reads no lists of revoked certificates",
    "ssl_verify_depth": "slardar has OpenSSL's limit",
    "ssl": "`tls:` before an endpoint of listen (docs/tls.md)",
    "http2": "slardar speaks HTTP/1.1, which browsers choose by themselves then",
    "http3": "slardar speaks HTTP/1.1, which browsers choose by themselves then",
    "quic_retry": "slardar speaks HTTP/1.1, which browsers choose by themselves then",
    "stub_status": "GET /metrics and `slardar top` (docs/metrics.md)",
    "stream": "slardar balances HTTP only",
    "load_module": "slardar has no modules of nginx",
    "health_check": "heartbeats: typ, http_opts and interval of an upstream (docs/health.md)",
    "check": "heartbeats: typ, http_opts and interval of an upstream (docs/health.md)",
    "sticky": "mode: sticky of an upstream (docs/balancers.md#sticky)",
    "underscores_in_headers": "slardar passes headers with _, but for spellings of its own",
    "proxy_ignore_client_abort": "when a client leaves, its request to the server ends",
    "proxy_limit_rate": _LIMIT,
    "internal": "slardar has no internal redirects",
    "rewrite_by_lua_file": "a Lua hook (docs/hooks-lua.md)",
    "rewrite_by_lua_block": "a Lua hook (docs/hooks-lua.md)",
    "access_by_lua_file": "a Lua hook (docs/hooks-lua.md)",
    "access_by_lua_block": "a Lua hook (docs/hooks-lua.md)",
    "content_by_lua_block": "a Lua hook (docs/hooks-lua.md)",
}
