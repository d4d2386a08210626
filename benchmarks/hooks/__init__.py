"""Measures what hooks cost: ``python -m benchmarks.hooks`` writes ``HOOKS.md``."""
