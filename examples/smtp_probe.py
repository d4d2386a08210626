"""A probe of your own: a mail server must greet with 220 before it gets connections.

A probe is a class that slardar can import; ``typ`` names it::

    PYTHONPATH=examples twistd -n slardar &
    curl -X PUT localhost:1995/upstream/mail -d '{
      "typ": "smtp_probe.Smtp",
      "servers": [{"host": "127.0.0.1", "port": 25}]}'

slardar connects, hands over what the server sends, and gives up after ``health.timeout``.
``slardar/health/probes/base.py`` has the rules.
"""

from __future__ import annotations

from slardar.health.probes.base import OK, Check, Probe, failed, readable


class Greeting(Check):
    def __init__(self):
        self.line = b""

    def connected(self):
        return b""

    def received(self, data):
        self.line += data[: 512 - len(self.line)]
        if b"\n" not in self.line and len(self.line) < 512:
            return None
        return OK if self.line.startswith(b"220") else failed(readable(self.line))

    def ended(self):
        return failed("the server closed the connection without a greeting")


class Smtp(Probe):
    def begin(self):
        return Greeting()
