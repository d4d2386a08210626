"""Balancers by the million: what ``python -m benchmarks.balance`` measures, and how it is drawn."""
