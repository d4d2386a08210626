"""The types of what :mod:`slardar.observers.lines` takes from here."""

class LineWriter:
    def __init__(self, max_line: int, worker: str) -> None: ...
    def write(
        self,
        client: bytes,
        method: bytes,
        host: str,
        uri: bytes,
        protocol: str | None,
        status: int,
        bytes_in: int,
        bytes_out: int,
        seconds: float,
        upstream: str,
        server: str | None,
        attempts: int,
        connect: float | None,
        first_byte: float | None,
        request_id: bytes | None,
        trace_id: bytes | None,
        span_id: bytes | None,
        decision: str | None,
        hook: str,
        error: str,
        block: bytes,
        tls: str | None,
    ) -> int: ...
    def take(self) -> bytes: ...
