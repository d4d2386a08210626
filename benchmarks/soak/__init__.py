"""Faults and changes under load, with real processes and a verdict on each figure."""
