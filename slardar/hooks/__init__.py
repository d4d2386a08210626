"""Hooks: users' scripts that see each request before it is routed, and its reply."""
