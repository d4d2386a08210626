"""Configurations of other proxies, turned into one for slardar, with a list of what is left out."""
