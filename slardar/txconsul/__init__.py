"""py-consul's API with Deferreds: every call returns one, and nothing blocks.

:class:`Consul` is py-consul's class of that name; only the transport is another one: treq over
connections that are kept.  ``docs/txconsul.md`` says how it is used.  It knows nothing of slardar.
"""

from slardar.txconsul.client import Consul, HTTPClient
from slardar.txconsul.errors import (
    AgentError,
    BrokenAnswerError,
    ClosedError,
    NoAnswerError,
    UnreachableError,
)

__all__ = [
    "AgentError",
    "BrokenAnswerError",
    "ClosedError",
    "Consul",
    "HTTPClient",
    "NoAnswerError",
    "UnreachableError",
]
