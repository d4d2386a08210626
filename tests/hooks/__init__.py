"""Tests of ``slardar.hooks``."""
