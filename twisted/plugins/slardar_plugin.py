"""Makes ``twistd slardar`` possible; slardar itself is imported only when it is started."""

from twisted.application.service import ServiceMaker

slardar = ServiceMaker(
    "slardar",
    "slardar.service",
    "A programmable HTTP load balancer.",
    "slardar",
)
