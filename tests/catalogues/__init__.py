"""Tests of ``slardar.catalogues``."""
