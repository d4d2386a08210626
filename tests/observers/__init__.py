"""Tests of ``slardar.observers``."""
