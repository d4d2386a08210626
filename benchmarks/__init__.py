"""Measures slardar beside other HTTP proxies on one machine.

``python -m benchmarks --help`` lists the options; ``docs/benchmarks.md`` explains the
figures.  Nothing here is part of the installed package.
"""
