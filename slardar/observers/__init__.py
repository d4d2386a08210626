"""Observers: what is told of every request that has ended; see ``plane_observers``."""
