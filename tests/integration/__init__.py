"""Tests of the whole: real programs, real sockets, real files."""
