"""Tests of ``slardar.dataplane``."""
