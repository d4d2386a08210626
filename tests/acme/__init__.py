"""Tests of ``slardar.acme``."""
