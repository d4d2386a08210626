"""The text is Prometheus', and written in pieces."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slardar.observers.counted import Counted, ServerCounted, UpstreamCounted
from slardar.observers.exposition import Exposition, escaped
from slardar.observers.families import FAMILIES, PREFIX
from slardar.observers.totals import HookTotals
from tests.observers.kit import FACTS, lines_of, snapshot, text_of, totals


def full_text() -> str:
    """A scrape in which every metric has a sample."""
    some = totals()
    about = ServerCounted("127.0.0.1:1", {200: 2, 0: 1}, {"connect": 1}, 1)
    upstream = UpstreamCounted(
        "a", {200: 2, 404: 1}, (1, 1, 1) + (0,) * 11, 0.5, 7, 8, 1, 2, (about,)
    )
    some.take(Counted((upstream,), {"hook": 1}, (3,) + (0,) * 16, 0.25), snapshot(a=[1]))
    hook = some.hooks["lua/script.a"] = HookTotals()
    hook.calls, hook.errors, hook.seconds = 5, 1, 0.5
    return text_of(some, snapshot(7, a=[1, 2], b=[3]))


def test_parser_reads_it() -> None:
    """Prometheus' own parser finds each family, with its type and its help text, and exactly
    the labels of the table."""
    found = {family.name: family for family in text_string_to_metric_families(full_text())}
    for family in FAMILIES:
        name = PREFIX + family.name
        read = found.pop(name.removesuffix("_total") if family.type == "counter" else name)
        assert (read.type, read.documentation) == (family.type, family.help)
        assert read.samples, name
        for sample in read.samples:
            assert set(sample.labels) - {"le"} == set(family.labels), sample
    assert found == {}


def test_values() -> None:
    """Each number where it belongs."""
    text = full_text()
    for line in (
        # The same file twice.
        'slardar_certificate_expiry_seconds{name="a.pem"} 1700000000',
        'slardar_requests_total{upstream="a",code="404"} 1',
        'slardar_request_duration_seconds_bucket{upstream="a",le="0.001"} 1',
        'slardar_request_duration_seconds_bucket{upstream="a",le="0.005"} 3',
        'slardar_request_duration_seconds_bucket{upstream="a",le="+Inf"} 3',
        'slardar_request_duration_seconds_sum{upstream="a"} 0.500000',
        'slardar_request_duration_seconds_count{upstream="a"} 3',
        'slardar_request_duration_seconds_count{upstream="b"} 0',
        'slardar_server_requests_total{upstream="a",server="127.0.0.1:1",code="0"} 1',
        'slardar_server_failures_total{upstream="a",server="127.0.0.1:1",kind="connect"} 1',
        'slardar_server_up{upstream="b",server="127.0.0.1:3"} 1',
        'slardar_server_active_requests{upstream="a",server="127.0.0.1:2"} 2',
        'slardar_retries_total{upstream="a"} 1',
        'slardar_retry_budget_exhausted_total{upstream="a"} 2',
        'slardar_ejections_total{upstream="a",server="127.0.0.1:1"} 1',
        'slardar_refused_total{reason="hook"} 1',
        'slardar_bytes_received_total{upstream="a"} 7',
        'slardar_bytes_sent_total{upstream="a"} 8',
        'slardar_added_seconds_bucket{le="0.0001"} 3',
        "slardar_added_seconds_count 3",
        'slardar_connections{listener="tcp:8080"} 3',
        'slardar_tunnels{upstream="a"} 1',
        'slardar_hook_calls_total{hook="lua/script.a",outcome="ok"} 4',
        'slardar_hook_seconds_total{hook="lua/script.a"} 0.500000',
        "slardar_config_version 7",
        'slardar_workers{state="alive"} 2',
        "slardar_worker_restarts_total 1",
        "slardar_access_log_dropped_total 5",
        'slardar_build_info{version="1.2.3"} 1',
    ):
        assert line in text.splitlines(), line


def test_labels_are_escaped() -> None:
    """No name ends its label."""
    assert escaped('a"b\\c\nd') == 'a\\"b\\\\c\\nd'
    facts = FACTS._replace(connections={'unix:"\\x\n': 1})
    text = text_of(totals(), snapshot(), facts)
    (sample,) = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name == "slardar_connections"
    ]
    assert sample.labels == {"listener": 'unix:"\\x\n'}


def test_pieces_are_short_and_whole() -> None:
    """A piece is small, however many upstreams there are; and between two pieces everything may
    change."""
    some = totals()
    names = {f"u{number}": [1, 2, 3] for number in range(300)}
    served = snapshot(**names)
    pieces = Exposition(served, some, FACTS, (), "1").pieces()
    text = ""
    for number, piece in enumerate(pieces):
        assert piece.endswith("\n")
        assert len(piece) < 33000
        text += piece
        name = f"u{number}"
        about = UpstreamCounted(name, {200: 1}, servers=(ServerCounted("127.0.0.1:1", {}),))
        some.take(Counted((about,)), served)
        some.changed([name], snapshot(2))
    assert len(lines_of(text, "slardar_server_up")) == 900
    assert len(lines_of(text, "slardar_request_duration_seconds_count")) == 300


def test_no_family_is_written_twice() -> None:
    """Each has one block, with its samples behind its head."""
    text = full_text()
    seen = [line.split(" ")[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert seen == [PREFIX + family.name for family in FAMILIES]


@pytest.mark.real
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not here")
def test_promtool_finds_nothing() -> None:
    """Names, types and units follow Prometheus' rules."""
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=full_text().encode(),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
