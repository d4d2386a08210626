"""Tests of ``slardar.http1``."""
