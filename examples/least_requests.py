"""A balancer of your own: each request goes to the server that has got the fewest requests.

A balancer is a class that slardar can import; ``mode`` names it::

    python examples/backends.py 8001 8002 &
    PYTHONPATH=examples twistd -n slardar &
    curl -X PUT localhost:1995/upstream/www.example.com -d '{
      "mode": "least_requests.LeastRequests",
      "servers": [{"host": "127.0.0.1", "port": 8001}, {"host": "127.0.0.1", "port": 8002}]}'
    curl -H 'Host: www.example.com' localhost:8080/

One instance serves one level of one upstream.  Its methods run on the request path, so
they must not block.  ``slardar/balancers/base.py`` has its other methods.
"""

from __future__ import annotations

from slardar.balancers.base import Balancer


class LeastRequests(Balancer):
    def __init__(self, servers, options):
        super().__init__(servers, options)
        self.sent = dict.fromkeys(servers, 0)

    def pick(self, servers, request):
        return min(servers, key=self.sent.get)

    def started(self, server):
        self.sent[server] += 1
