"""Tells twistd that there is a ``slardar`` to start; imports nothing until it is."""

from twisted.application.service import ServiceMaker

slardar = ServiceMaker(
    "slardar",
    "slardar.service",
    "A programmable HTTP load balancer.",
    "slardar",
)
