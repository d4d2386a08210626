"""The status object: upyun/slardar's names and forms."""

from __future__ import annotations

import json
import os
import socket
import time

from slardar import __version__
from slardar.health.checked import take_verdict
from slardar.health.verdicts import Heartbeat
from slardar.model.acme import HostState
from slardar.model.live import ServerLive
from slardar.resolve import NameState
from tests.control.fakes import NOW, FakePlane, FakeStore, make_actions, result_of, upstream


def test_status_is_the_contracts() -> None:
    """Every documented key is there, in its form."""
    plane = FakePlane()
    actions = make_actions(FakeStore(), plane, conf_hash="abc", upstreams={"a": upstream(1)})
    result_of(actions.set_upstream("b", upstream(2), "x"))
    status = actions.status()
    json.dumps(status)
    assert status.pop("generations") == [{"pid": os.getpid(), "age": 0.0, "connections": 2}]
    servers = {key: status.pop(key) for key in list(status) if key.startswith("cls:")}
    assert status == {
        "slardar_version": __version__,
        "start_time": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW)),
        "conf_hash": "abc",
        "shd_config_version": 1,
        "checkup_timer_alive": False,
        "last_check_time": None,
        "config_timer": {"worker-0": "alive"},
        "workers": {"worker-0": {"pid": 5}},
        "fingerprint": actions.snapshot.fingerprint,
        "statistics": {"requests": 7, "connections": 2},
        "store": {"url": "sqlite:slardar.db", "status": "ok"},
        "origins": {
            "upstreams": {"a": "file", "b": "control"},
            "services": {},
            "routes": "file",
            "settings": {},
            "shadowed": [],
        },
    }
    assert list(servers) == ["cls:a", "cls:b"]


def test_servers_are_shown_level_by_level() -> None:
    """Each level is an inner list; the plane's values of a server stand beside its settings."""
    plane = FakePlane()
    live = ServerLive()
    live.status, live.msg, live.fail_num = "err", "refused", 3
    live.active, live.requests, live.failures = 1, 20, 4
    live.last_modified = NOW + 0.9
    live.notes = {"slow_start": "it climbs"}
    plane.live["a"] = {"127.0.0.1:1": live}
    first = {"host": "127.0.0.1", "port": 1, "weight": 5, "max_fails": 2, "fail_timeout": 2.5}
    second = {"host": "::1", "port": 2, "state": "drain"}
    levels = [{"servers": [first]}, {"servers": [second]}]
    actions = make_actions(FakeStore(), plane, upstreams={"a": {"cluster": levels}})
    [[shown], [other]] = actions.status()["cls:a"]
    assert shown == {
        "server": "a:127.0.0.1:1",
        "status": "err",
        "weight": 5,
        "max_fails": 2,
        "fail_timeout": 2.5,
        "fail_num": 3,
        "lastmodified": time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW)),
        "msg": "refused",
        "active": 1,
        "requests": 20,
        "failures": 4,
        "notes": {"slow_start": "it climbs"},
    }
    assert "notes" not in other
    assert "about" not in other
    assert (other["server"], other["status"]) == ("a:[::1]:2", "unchecked")
    assert other["state"] == "drain"
    assert isinstance(other["fail_timeout"], int)


def test_names_are_shown_with_their_servers() -> None:
    """A name has the addresses in use, and while lookups fail, since when and why; an address
    has neither."""
    plane = FakePlane()
    plane.names = {
        "a.example": NameState([(socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "::1")], 0.0, ""),
        "b.example": NameState([], NOW, "gave no answer"),
    }
    servers = [{"host": host, "port": 1} for host in ("a.example", "b.example", "127.0.0.1")]
    actions = make_actions(FakeStore(), plane, upstreams={"a": {"servers": servers}})
    status = actions.status()
    json.dumps(status)
    [shown] = status["cls:a"]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(NOW))
    assert [(server.get("addresses"), server.get("lookup")) for server in shown] == [
        (["10.0.0.1", "::1"], None),
        ([], {"failing_since": since, "msg": "gave no answer"}),
        (None, None),
    ]


def test_heartbeats_are_shown() -> None:
    """The worse of requests and heartbeats, whole; and what the server says of itself."""
    plane = FakePlane()
    live = ServerLive()
    live.status, live.requests = "ok", 20
    about: dict[str, str | int] = {"role": "slave"}
    take_verdict(live, Heartbeat("a", "127.0.0.1", 1, "err", NOW + 5.5, "no answer", 3, about))
    plane.live["a"] = {"127.0.0.1:1": live}
    counted = plane.statistics()
    plane.statistics = lambda: {  # type: ignore[method-assign]
        **counted,
        "checkup_timer_alive": True,
        "last_check": NOW + 7.9,
    }
    actions = make_actions(FakeStore(), plane, upstreams={"a": upstream(1)})
    status = actions.status()
    assert status["checkup_timer_alive"] is True
    assert status["last_check_time"] == local(NOW + 7)
    assert "last_check" not in status["statistics"]
    [[shown]] = status["cls:a"]
    keys = ("status", "msg", "fail_num", "lastmodified", "about", "requests")
    assert [shown[key] for key in keys] == ["err", "no answer", 3, local(NOW + 5), about, 20]


def local(seconds: float) -> str:
    """A time as it is shown."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def test_counters_of_upstreams() -> None:
    """Those that have any are shown, under their names."""
    plane = FakePlane()
    one = {"servers": [{"host": "127.0.0.1", "port": 1}]}
    upstreams = {"a": one, "b": one}
    actions = make_actions(FakeStore(), plane, upstreams=upstreams)
    assert "upstreams" not in actions.status()
    plane.upstream_counts = {"b": {"retries": 3}, "gone": {"retries": 4}}
    assert actions.status()["upstreams"] == {"b": {"retries": 3}}


def test_certificates_by_acme() -> None:
    """Only what there is to tell of each name."""
    actions = make_actions(FakeStore(), FakePlane())
    assert "acme" not in actions.status()
    actions.acme = lambda: {
        "b.example": HostState("other"),
        "a.example": HostState("failed", NOW, NOW + 60, "no", 2, "node"),
    }
    assert actions.status()["acme"] == {
        "a.example": {
            "status": "failed",
            "expires": local(NOW),
            "next": local(NOW + 60),
            "failures": 2,
            "error": "no",
            "node": "node",
        },
        "b.example": {"status": "other"},
    }
