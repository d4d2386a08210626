"""Tests of ``slardar.hooks.python``."""
