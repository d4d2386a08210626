"""Tests of ``slardar.balancers``."""
