"""Hooks in Python: a subset of the language, guards around what is left, a CPU budget."""
