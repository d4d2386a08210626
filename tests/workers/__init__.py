"""Tests of ``slardar.workers``; real processes are in ``tests/integration/test_workers.py``."""
