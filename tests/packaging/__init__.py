"""Tests of what ``packaging`` and the Dockerfile make."""
