"""Settings that hooks read, on the real program: in all workers, and over all that ends one."""

from __future__ import annotations

import http.client
import json
import os
import signal
import time
from pathlib import Path

from tests.consul_agent import ConsulAgent
from tests.integration.conftest import Start
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded

LUA = "ngx.print(slardar.myargs and slardar.myargs.arg0 or slardar.of_file.x)"
PYTHON = """
def on_request(request):
    if "myargs" not in settings:
        return request.respond(200, settings.of_file.x)
    return request.respond(200, str(settings.myargs.arg0))
"""
HOSTS = ("lua.test", "python.test")
#: Connections for each look: each of two workers gets some.
MANY = 8


def read(site: Upgraded) -> set[str]:
    """What hooks of both languages read, in requests on connections of their own."""
    found = set()
    for host in HOSTS * MANY:
        client = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
        client.request("GET", "/", headers={"Host": host, "Connection": "close"})
        found.add(client.getresponse().read().decode())
        client.close()
    return found


def requests(site: Upgraded) -> list[int]:
    """How many requests each worker has had."""
    return [about["requests"] for about in site.status()["workers"].values()]


def write_file(folder: Path, value: str) -> None:
    """The file has a setting, and no heartbeats are sent."""
    text = {"settings": {"of_file": {"x": value}}, "store": "memory:"}
    (folder / "slardar.yaml").write_text(json.dumps(text))


def test_all_workers_read_a_new_value_at_once(tmp_path: Path, start: Start) -> None:
    """When the call is answered, which takes some milliseconds.  A replaced worker has it, too, and
    after an upgrade of a store that forgets it is there.  Without it the file's settings count,
    and HUP reads them again."""
    write_file(tmp_path, "one")
    site = start(Upgraded(tmp_path, "--config", "slardar.yaml")).ready()
    for host, language, code in zip(HOSTS, ("lua", "python"), (LUA, PYTHON), strict=True):
        path = f"/{language}/script.{host}?activate=1"
        assert site.call("POST", path, code) == (200, "ok")
    assert read(site) == {"one"}
    for value in range(2, 4):
        began = time.monotonic()
        assert site.call("PUT", "/setting/myargs", {"arg0": value}) == (200, {"status": 200})
        assert time.monotonic() - began < 0.9
        assert read(site) == {str(value)}
    # The reports of workers come once a second.
    until(lambda: min(requests(site)) > 0 and sum(requests(site)) >= 6 * MANY, "both have served")
    assert all(hook["version"] for hook in site.call("GET", "/lua")[1]["modules"])
    dead = site.pids()["worker-0"]
    os.kill(dead, signal.SIGKILL)
    until(lambda: site.are_alive() and site.pids()["worker-0"] != dead, "the worker is replaced")
    assert read(site) == {"3"}
    site.upgrade()
    assert read(site) == {"3"}
    assert site.call("PUT", "/setting/myargs%2Farg0", "4")[0] == 200
    assert read(site) == {"4"}
    for name in ("myargs%2Farg0", "myargs"):
        assert site.call("DELETE", f"/setting/{name}")[0] == 200
    assert read(site) == {"one"}
    write_file(tmp_path, "two")
    os.kill(site.current, signal.SIGHUP)
    until(lambda: read(site) == {"two"}, "the file is read again")


def test_consuls_values_reach_all_workers_within_a_second(
    tmp_path: Path, start: Start, consul: ConsulAgent
) -> None:
    """A tree of upyun/slardar as it is: JSON or a text, whoever writes it.  A value that cannot
    be used is told, and the last good one stays."""
    place = "config/slardar"
    for host, language, code in zip(HOSTS, ("lua", "python"), (LUA, PYTHON), strict=True):
        consul.put(f"{place}/{language}/script.{host}", code)
    consul.put(f"{place}/myargs", '{"arg0": 0,"arg1": 1}')
    consul.put(f"{place}/of_file/x", "no JSON")
    url = f"consul:http://{consul.address}/{place}/"
    site = start(Upgraded(tmp_path, "--store", url)).ready()
    assert read(site) == {"0"}
    times = []
    for value in ("1", "2", "3"):
        consul.put(f"{place}/myargs", f'{{"arg0": {value}}}')
        times.append(until(lambda value=value: read(site) == {value}, value))  # type: ignore[misc]
    # The time includes that of the requests.
    assert min(times) < 1
    consul.put(f"{place}/myargs", json.dumps({"arg0": "x" * 100_000}))
    until(lambda: "settings.myargs" in site.status().get("failed", {}), "it is told")
    assert read(site) == {"3"}
    consul.delete(f"{place}/myargs")
    until(lambda: read(site) == {"no JSON"}, "it is gone")
    assert "failed" not in site.status()
