"""Tests of ``slardar.health``."""
