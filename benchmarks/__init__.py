"""Measures slardar beside other HTTP proxies on one machine.

``python -m benchmarks --help`` says how; ``docs/benchmarks.md`` says what the
figures mean.  Nothing here is part of the installed package.
"""
