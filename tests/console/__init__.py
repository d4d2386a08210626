"""Tests of ``slardar.console``: the command, as it is typed."""
