"""The types of what :mod:`slardar.http1.scan` takes from here."""

from slardar.http1.scan import ScannedReply, ScannedRequest

def scan_request(data: bytes) -> ScannedRequest | None: ...
def scan_reply(data: bytes) -> ScannedReply | None: ...
def find_value(block: bytes, name: bytes) -> bytes | None: ...
def write_id(prefix: bytes, number: int) -> bytes: ...
def write_request(
    method: bytes,
    target: bytes,
    authority: bytes,
    block: bytes,
    hops: bytes,
    proto: bytes,
    host: bytes,
    request_id: bytes,
    more: bytes,
) -> bytes: ...
def write_reply(block: bytes, length: int, more: bytes, body: bytes) -> bytes: ...
