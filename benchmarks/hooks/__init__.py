"""What hooks cost: ``python -m benchmarks.hooks``, written into ``HOOKS.md``."""
