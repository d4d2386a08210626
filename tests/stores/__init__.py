"""Tests of ``slardar.stores``."""
