"""Tracing of the real program: spans come to a collector, and no collector harms requests."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.integration.collector import Collector, attributes_of
from tests.integration.conftest import Start
from tests.integration.programs import Nginx
from tests.integration.sockets import Client
from tests.integration.test_workers import Team, until

BOTH_FORMS = pytest.mark.parametrize("workers", [0, 2])
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.end()


def configured(folder: Path, nginx: Nginx, tracing: object, **more: object) -> tuple[str, str]:
    """Options for a configuration with this tracing, and the upstreams ``a`` and ``half``, one
    of whose servers is not there."""
    host, port = nginx.address.split(":")
    server = {"host": host, "port": int(port)}
    half = [{"host": host, "port": 1, "weight": 100}, {**server, "backup": True}]
    config = {
        "tracing": tracing,
        "upstreams": {
            "a": {"servers": [server], "enable": False},
            "half": {"servers": half, "enable": False},
        },
        **more,
    }
    (folder / "slardar.yaml").write_text(json.dumps(config))
    return "--config", "slardar.yaml"


def ask(port: int, host: str, path: str = "/who", *lines: str) -> int:
    with Client(("127.0.0.1", port)) as client:
        client.send("\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode())
        return client.reply().status


def children(spans: list[Any], parent: Any) -> list[Any]:
    found = [span for span in spans if span.parent_span_id == parent.span_id]
    return sorted(found, key=lambda span: span.start_time_unix_nano)


@BOTH_FORMS
def test_spans_of_requests_and_attempts(
    tmp_path: Path, start: Start, nginx: Nginx, collector: Collector, workers: int
) -> None:
    """One for a request, as the child of the client's, and one below it for each attempt; with
    true times, and without anything secret."""
    options = configured(tmp_path, nginx, {"otlp": collector.url + "/", "service": "edge"})
    team = start(Team(tmp_path, *options, count=workers)).ready()
    code = 'def on_request(request):\n    if request.path == "/no":\n        request.reject(403)\n'
    assert team.call("POST", "/python/script.a", code)[0] == 200
    assert team.call("PUT", "/python/script.a")[0] == 200
    began = time.time_ns()
    secrets = ("Authorization: Basic c2VjcmV0", "Cookie: s=secret")
    header = f"traceparent: 00-{TRACE}-{PARENT}-00"
    assert ask(team.port, "a", "/who?key=secret", header, *secrets) == 200
    assert ask(team.port, "half") == 200
    assert ask(team.port, "a", "/no") == 403
    assert ask(team.port, "nobody") == 502
    until(lambda: len(collector.spans()) == 7, "all spans are there")
    ended = time.time_ns()
    for path, headers, message in collector.posts:
        assert path == "/v1/traces"
        assert headers["Content-Type"] == "application/x-protobuf"
        assert attributes_of(message.resource_spans[0].resource)["service.name"] == "edge"
        assert b"secret" not in message.SerializeToString()
        assert b"c2VjcmV0" not in message.SerializeToString()
    spans = collector.spans()
    requests = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    by = {(attributes_of(s)["server.address"], attributes_of(s)["url.path"]): s for s in requests}
    one, half, no, nobody = (
        by[key] for key in (("a", "/who"), ("half", "/who"), ("a", "/no"), ("nobody", "/who"))
    )
    assert (one.trace_id.hex(), one.parent_span_id.hex()) == (TRACE, PARENT)
    for span in (half, no, nobody):
        assert span.parent_span_id == b""
    assert len({span.trace_id for span in requests}) == 4
    assert len({span.span_id for span in spans}) == 7
    for span in requests:
        assert began < span.start_time_unix_nano <= span.end_time_unix_nano < ended
        for child in children(spans, span):
            assert child.kind == Span.SPAN_KIND_CLIENT
            assert child.trace_id == span.trace_id
            assert span.start_time_unix_nano <= child.start_time_unix_nano
            assert child.end_time_unix_nano <= span.end_time_unix_nano
            for event in child.events:
                assert child.start_time_unix_nano <= event.time_unix_nano
                assert event.time_unix_nano <= child.end_time_unix_nano
    host, port = nginx.address.split(":")
    found = attributes_of(one)
    assert found["slardar.worker"] in {f"worker-{n}" for n in range(max(1, workers))}
    assert (one.name, one.status.code) == ("GET", Status.STATUS_CODE_UNSET)
    assert found.items() >= {
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", 200),
        ("slardar.upstream", "a"),
        ("slardar.answered_by", "server"),
    }
    (attempt,) = children(spans, one)
    assert attributes_of(attempt) == {
        "http.request.method": "GET",
        "url.full": f"http://{nginx.address}/who",
        "server.address": host,
        "server.port": int(port),
        "http.response.status_code": 200,
        "slardar.upstream": "a",
    }
    assert [event.name for event in attempt.events] == ["connected", "first byte"]
    first, second = children(spans, half)
    assert attributes_of(first)["error.type"] == "connect"
    assert first.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(second)["http.request.resend_count"] == 1
    assert second.status.code == half.status.code == Status.STATUS_CODE_UNSET
    assert attributes_of(no)["slardar.hook"] == "python/script.a"
    assert attributes_of(nobody)["error.type"] == "502"
    assert nobody.status.code == Status.STATUS_CODE_ERROR
    assert children(spans, no) == children(spans, nobody) == []
    statistics = team.status()["statistics"]
    assert (statistics["spans_exported"], statistics["spans_dropped"]) == (4, 0)


@BOTH_FORMS
def test_what_waits_is_posted_at_the_stop(
    tmp_path: Path, start: Start, nginx: Nginx, collector: Collector, workers: int
) -> None:
    """The spans of the last requests, too, at once."""
    options = configured(tmp_path, nginx, {"otlp": collector.url})
    team = start(Team(tmp_path, *options, count=workers)).ready()
    for _ in range(20):
        assert ask(team.port, "a") == 200
    team.signal(signal.SIGTERM)
    team.wait()
    assert len(collector.spans()) == 40


def test_collector_that_hangs_harms_nothing(
    tmp_path: Path, start: Start, nginx: Nginx, collector: Collector
) -> None:
    """Requests are served, and the stop waits for it for a short time only."""
    collector.goes_on.clear()
    options = configured(tmp_path, nginx, {"otlp": collector.url})
    team = start(Team(tmp_path, *options, count=1)).ready()
    assert ask(team.port, "a") == 200
    until(lambda: collector.posts, "the collector is asked")
    for _ in range(200):
        assert ask(team.port, "a") == 200
    assert team.status()["statistics"]["spans_exported"] == 0
    began = time.monotonic()
    team.signal(signal.SIGTERM)
    team.wait()
    assert time.monotonic() - began < 15
    assert "the spans of 201 requests are lost" in team.output


def test_collector_that_is_busy_or_gone_is_asked_again(
    tmp_path: Path, start: Start, nginx: Nginx, collector: Collector
) -> None:
    """After the seconds that it has named; and nothing is lost meanwhile."""
    collector.answers = [(503, {"Retry-After": "2"})]
    options = configured(tmp_path, nginx, {"otlp": collector.url})
    team = start(Team(tmp_path, *options, count=1)).ready()
    assert ask(team.port, "a") == 200
    until(lambda: collector.posts, "the collector is asked")
    first = time.monotonic()
    until(lambda: len(collector.posts) == 2, "it is asked again")
    assert time.monotonic() - first > 1.5
    until(lambda: team.status()["statistics"]["spans_exported"] == 1, "it has taken the span")
    assert collector.posts[0][2] == collector.posts[1][2]
    team.wait_for("cannot be posted: it answers 503")
    collector.end()
    assert ask(team.port, "a") == 200
    assert ask(team.port, "a") == 200
    again = Collector(collector.port)
    try:
        until(lambda: len(again.spans()) == 4, "the new collector has the spans")
    finally:
        again.end()
    assert len(collector.spans()) == 4  # the first one twice
    assert team.status()["statistics"]["spans_dropped"] == 0
