"""Whether nginx would keep a request from a location's servers, or change it before.

Whatever is not known to be harmless is a guard: requests for its locations are not passed on.
"""

from __future__ import annotations

import re

from slardar.migration.nginx_words import OWN
from slardar.migration.statement import Scope, Statement, is_trusted_header

__all__ = ["guard_of", "is_harmless"]

#: What the import reads itself.
_READ = frozenset(
    {
        *("http", "server", "location", "upstream", "events", "listen", "server_name", "ssl"),
        *("proxy_pass", "proxy_set_header", "proxy_connect_timeout", "proxy_send_timeout"),
        *("proxy_read_timeout", "client_max_body_size", "keepalive_timeout", "send_timeout"),
        *("client_header_timeout", "client_body_timeout", "lingering_timeout", "set_real_ip_from"),
        *("real_ip_header", "large_client_header_buffers", "worker_processes", "ssl_protocols"),
        *("worker_connections", "worker_shutdown_timeout", "ssl_certificate", "ssl_ciphers"),
        *("ssl_certificate_key", "ssl_client_certificate", "ssl_verify_client"),
        # What these do is only for requests that no location has.
        *("allow", "return"),
    }
)
#: What is listed, and keeps no request back: it makes variables, changes replies, files, logs or
#: caches, or says how another directive does its work.
_HARMLESS = frozenset(
    {
        *("set", "map", "geo", "split_clients", "valid_referers", "satisfy", "break", "keyval"),
        *("secure_link", "secure_link_md5", "secure_link_secret", "auth_basic_user_file"),
        *("add_header", "add_trailer", "expires", "error_page", "charset", "charset_types"),
        *("charset_map", "override_charset", "source_charset", "slice", "gunzip", "gunzip_buffers"),
        *("root", "alias", "index", "random_index", "min_delete_depth", "create_full_put_path"),
        *("aio", "aio_write", "directio", "directio_alignment", "read_ahead", "disable_symlinks"),
        *("limit_rate", "limit_rate_after", "limit_req_zone", "limit_req_status"),
        *("limit_req_log_level", "limit_req_dry_run", "limit_conn_zone", "limit_conn_status"),
        *("limit_conn_log_level", "limit_conn_dry_run", "access_log", "log_format", "error_log"),
        *("resolver", "resolver_timeout", "status_zone", "health_check", "match", "check"),
        *("http2", "http3", "http3_hq", "quic_retry", "quic_gso", "underscores_in_headers"),
        *("load_module", "stream", "mail", "perl_modules", "perl_set", "perl_require"),
        *("mirror", "mirror_request_body", "more_set_headers", "more_clear_headers"),
        *("proxy_hide_header", "proxy_pass_header", "proxy_redirect", "proxy_cookie_path"),
        *("proxy_cookie_domain", "proxy_cookie_flags", "proxy_intercept_errors", "proxy_bind"),
        *("proxy_ignore_client_abort", "proxy_ignore_headers", "proxy_limit_rate", "proxy_store"),
        *("proxy_store_access", "proxy_no_cache", "proxy_force_ranges", "proxy_headers_hash_size"),
        *("proxy_next_upstream", "proxy_next_upstream_tries", "proxy_next_upstream_timeout"),
        *("ssl_verify_depth", "ssl_password_file", "ssl_conf_command", "ssl_certificate_cache"),
        *("ssl_engine", "ssl_object_cache_inheritable", "if_modified_since", "msie_padding"),
        *("msie_refresh", "post_acceptex", "subrequest_output_buffer_size", "stub_status"),
        *("js_import", "js_include", "js_path", "js_set", "js_var", "js_preload_object"),
        *("js_header_filter", "js_body_filter", "js_shared_dict_zone", "addition_types"),
        *("add_before_body", "add_after_body", "xslt_stylesheet", "xslt_types"),
    }
)
_FAMILIES = re.compile(
    r"(fastcgi|uwsgi|scgi|grpc|memcached)_(?!pass$).*|(proxy_cache|proxy_ssl|gzip|brotli|zstd)(_.*)?"
    r"|(http2|http3|lua|ssl_session|ssl_stapling|userid|sub_filter|ssi|image_filter|geoip2?|otel"
    r"|autoindex|dav|opentracing|opentelemetry|vhost_traffic_status|open_log_file_cache)(_.*)?"
    r"|(init|init_worker|exit_worker|header_filter|body_filter|log|ssl_certificate)_by_lua(_.*)?"
)
#: What comes before any location is looked at, so that no location can do without it.
_BEFORE = re.compile("if|rewrite|server_rewrite_by_lua.*")
#: What counts for the location alone in which it stands.
_OWN_PLACE = frozenset(
    {"try_files", "internal", "fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass"}
    | {"memcached_pass", "content_by_lua_block", "content_by_lua_file", "empty_gif"}
)


def _is_notable(one: Statement) -> bool:
    """Whether a statement may keep requests back, or says that one further out does not."""
    if one.name == "proxy_set_header":
        # Without it clients could tell the server what the server takes for the proxy's word.
        return one.args[1:] == [""] and is_trusted_header(one.args[0])
    if one.name in _READ or one.name in OWN or one.name in _HARMLESS:
        return one.name == "allow"
    return _FAMILIES.fullmatch(one.name) is None


def is_harmless(one: Statement) -> bool:
    """Whether it is known that a statement keeps no request back and changes none."""
    return one.args == ["off"] or one.name == "allow" or not _is_notable(one)


def guard_of(scope: Scope) -> Statement | None:
    """A statement that may keep requests of a location from its servers, or change them.

    An inner block's statements count in the place of those of the same name further out.
    """
    known: set[str] = set()
    around: Scope | None = scope
    while around is not None:
        here: set[str] = set()
        for one in around.chosen(_is_notable):
            name = "deny" if one.name == "allow" else one.name
            if _BEFORE.fullmatch(name):
                # An ``if`` that only sends clients to https is done by then.
                if not one.done:
                    return one
            elif name not in known:
                here.add(name)
                if not is_harmless(one) and (name not in _OWN_PLACE or around is scope):
                    return one
        known |= here
        around = around.outer
    return None
