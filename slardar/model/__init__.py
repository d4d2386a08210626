"""Upstreams, servers and routes as immutable values, and the counters beside them."""
