"""Runs an upstream in virtual time: the classes that serve, on servers that are only computed."""
