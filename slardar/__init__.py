"""A programmable HTTP load balancer framework on Twisted."""

__version__ = "0.1.0"
