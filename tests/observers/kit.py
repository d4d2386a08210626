"""Records of requests, for tests of what observers make of them."""

from __future__ import annotations

from time import monotonic

from slardar.http1.record import RequestRecord
from slardar.http1.request import parse_request

__all__ = ["record_of"]


def record_of(
    target: bytes = b"/a?b",
    headers: bytes = b"User-Agent: curl/8\r\nreferer:  http://r.test/ \r\n",
    upstream: str = "a.test",
    seconds: float = 0.25,
) -> RequestRecord:
    """The record of a request that a server has answered, which has just ended."""
    request = parse_request(b"GET %b HTTP/1.1\r\nHost: A.test:81\r\n%b\r\n" % (target, headers))
    request.request_id = b"id-1"
    ended = monotonic()
    record = RequestRecord(b"192.0.2.7", request, ended - seconds)
    record.upstream = upstream
    record.status = 200
    record.bytes_out = 300
    attempt = record.attempt("10.0.0.1:80", record.started)
    attempt.connected = record.started + 0.001
    attempt.first_byte = record.started + 0.2
    record.ended = ended
    return record
