"""Tests of ``slardar.model``."""
