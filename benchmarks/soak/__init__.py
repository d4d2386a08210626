"""Faults and changes under load: real processes, and a verdict on each figure."""
