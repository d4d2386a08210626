"""Tests of ``slardar.control``."""
