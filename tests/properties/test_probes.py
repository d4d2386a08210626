"""Probes against hostile servers: one result, whatever comes and however it arrives."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.health.probes.base import Probe, ProbeOptions, Result
from slardar.health.probes.http import MAX_HEADS, Http
from slardar.health.probes.mysql import Mysql
from slardar.health.probes.redis import MAX_LINE, Redis
from tests.health.probes import test_http, test_mysql, test_redis
from tests.health.probes.kit import talk

steady = settings(derandomize=True, deadline=None, max_examples=300, database=None)

GREETING = test_mysql.greeting()
PROBES = {
    "http": Http(
        ProbeOptions("http", http_query=test_http.QUERY, failed_statuses=frozenset({502}))
    ),
    "redis": Redis(ProbeOptions("redis")),
    "redis, password": Redis(ProbeOptions("redis", password="secret")),
    "mysql": Mysql(ProbeOptions("mysql")),
    "mysql, password": Mysql(ProbeOptions("mysql", user="me", password="secret", name="shop")),
}
SAMPLES = [
    test_http.OK,
    test_http.EARLY + test_http.OK,
    test_http.EARLY * 400,
    b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nA: " + b"b" * (MAX_HEADS - 24) + b"\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nA: " + b"b" * MAX_HEADS + b"\0\r\n\r\n",
    b"\r\n\r\n",
    b"+PONG\r\n" + test_redis.MASTER + test_redis.SERVER,
    b"+OK\r\n+PONG\r\n" + test_redis.DOWN + test_redis.SERVER,
    b"+PONG\r\n" + test_redis.bulk(b"role:" + b"x" * (MAX_LINE + 9)) + test_redis.SERVER,
    b"+PONG\r\n$0\r\n\r\n-ERR\r\n",
    b"-LOADING\r\n",
    GREETING + test_mysql.OK,
    GREETING + test_mysql.DENIED,
    GREETING + test_mysql.packet(2, b"\xfecaching_sha2_password\0" + test_mysql.SALT),
    GREETING + test_mysql.packet(2, b"\xfemysql_old_password\0") * 9,
    test_mysql.greeting(method=b"caching_sha2_password") + test_mysql.packet(2, b"\x01\x04"),
    test_mysql.error(0, 1129, b"Host is blocked"),
    test_mysql.packet(0, b"\xff" + b"x" * 4000),
]

cuts = st.lists(st.integers(0, 20_000), max_size=8)
inserted = st.one_of(st.binary(max_size=6), st.sampled_from([b"\r\n", b"\0", b"\xff", b"$9"]))
answers = st.one_of(
    st.sampled_from(SAMPLES),
    # A good answer with some bytes replaced, lost or added.
    st.builds(
        lambda sample, place, lost, new: sample[:place] + new + sample[place + lost :],
        st.sampled_from(SAMPLES),
        st.integers(0, 200),
        st.integers(0, 6),
        inserted,
    ),
    st.binary(max_size=300),
)


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """``data`` in pieces."""
    edges = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def run(probe: Probe, pieces: Iterable[bytes]) -> Result:
    """One heartbeat; ``talk`` looks at the size of what the check keeps."""
    return talk(probe.begin(), pieces).result


@steady
@given(st.sampled_from(list(PROBES)), answers, cuts)
def test_one_result_however_it_is_cut(name: str, data: bytes, places: list[int]) -> None:
    """A result needs no whole packet, and nothing that a server sends raises."""
    probe = PROBES[name]
    result = run(probe, [data])
    assert run(probe, cut(data, places)) == result
    assert run(probe, cut(data, range(400))) == result
    assert result.status in ("ok", "unstable", "err")
    assert (result.status == "ok") is (result.message == "")
    assert len(result.message) < 600
    assert result.message.isprintable()
    assert all(len(str(value)) <= 200 for value in result.about.values())
    assert len(result.about) <= 5


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_sample_in_every_cut(name: str, sample: bytes) -> None:
    """Each sample byte by byte, up to some size, and in two parts at each place."""
    probe = PROBES[name]
    whole = run(probe, [sample])
    assert run(probe, cut(sample, range(400))) == whole
    for place in {*range(200), MAX_LINE, MAX_HEADS - 1, MAX_HEADS, MAX_HEADS + 1}:
        assert run(probe, cut(sample, [place])) == whole
