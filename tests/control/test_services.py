"""Upstreams that follow services: the calls, and the changes that a catalogue makes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from slardar.catalogues.watch import PAUSE, ServiceWatch
from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.control.conditions import Condition, PreconditionError
from slardar.errors import ConfigError, ConflictError, NotFoundError, StoreError
from slardar.model.change import StoredState, Value
from slardar.model.service import Levels, levels_of
from slardar.resolve import FIRST
from slardar.stores.memory import MemoryStore
from tests.catalogues.kit import HandCatalogue, one_level
from tests.control.board import Board, BoardStore
from tests.control.fakes import (
    NOW,
    PLUGINS,
    FakePlane,
    FakeStore,
    WebClient,
    error_of,
    result_of,
    upstream,
)

WEB = {"dns_service": "web", "mode": "hash"}


class Site:
    """A configuration whose catalogue the test plays."""

    def __init__(
        self, store: Any = None, begin: bool = True, before: Site | None = None, **settings: Any
    ) -> None:
        self.clock = Clock()
        self.catalogue = HandCatalogue()
        self.watch = ServiceWatch(self.clock, {"dns_service": self.catalogue})
        self.store = FakeStore() if store is None else store
        self.plane = FakePlane()
        self.actions = Actions(
            parse_settings(settings), self.store, self.plane, PLUGINS, lambda: NOW, self.watch
        )
        if before is not None:
            self.watch.learn(before.watch.known())
            self.actions.least_version = before.version
        self.started = self.actions.start()
        if begin:
            self.clock.advance(FIRST)
            result_of(self.started)

    def set(self, name: str, body: Any = WEB, *ports: int) -> Any:
        """Make a service, which has these servers."""
        done = self.actions.services.set(name, body, "ops")
        if body["dns_service"] in self.catalogue.told:
            self.catalogue.lists(body["dns_service"], *ports)
        self.clock.advance(FIRST)
        return result_of(done)

    def lists(self, name: str, *ports: int) -> None:
        """The catalogue lists servers, and the configuration has had time to follow."""
        self.catalogue.lists(name, *ports)
        self.clock.advance(PAUSE)

    def levels(self, name: str) -> Levels:
        """The servers that are served."""
        return levels_of(self.plane.snapshot.upstreams[name])

    @property
    def version(self) -> int:
        return self.actions.snapshot.version


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The texts of what the configuration logs."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "slardar.control":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


# What the catalogue lists.


def test_servers_that_are_listed_are_served(log: list[str]) -> None:
    """Each change is a version, served and logged; the store is not told of it."""
    site = Site()
    site.set("web", WEB, 1)
    assert (site.version, site.levels("web")) == (1, one_level(1))
    assert len(site.store.changes) == 1
    site.lists("web", 1, 2)
    assert (site.version, site.levels("web")) == (2, one_level(1, 2))
    assert site.plane.applied[-1][1] == ["web"]
    site.lists("web", 1, 2)
    assert site.version == 2
    assert len(site.store.changes) == 1
    assert log == [
        "version 1: services.web set by ops: new, with 127.0.0.1:1; from dns_service web",
        "version 2: services.web set by the catalogue: +127.0.0.1:2",
    ]
    # The next change of an operator goes on counting.
    assert result_of(site.actions.set_upstream("a", upstream(1), "ops")).version == 3
    assert site.store.state.version == 3


def test_server_that_stays_is_the_same_for_its_health() -> None:
    """Health is kept by upstream, host and port, and the other keys are the operator's."""
    site = Site()
    site.set("web", {**WEB, "server": {"max_fails": 3}}, 1, 2)
    before = site.plane.snapshot.upstreams["web"]
    site.lists("web", 2, 3)
    after = site.plane.snapshot.upstreams["web"]
    assert before.servers[1] == after.servers[0]
    assert (after.mode, after.servers[0].max_fails) == ("hash", 3)


def test_storm_of_answers_is_few_versions() -> None:
    """While workers are slow, what comes meanwhile is one change; all services share it."""
    site = Site()
    for name in ("a", "b", "c"):
        site.set(name, {"dns_service": name}, 1)
    version = site.version
    site.plane.held = []
    for port in range(2, 102):
        for name in ("a", "b", "c"):
            site.lists(name, port)
    assert site.version == version + 1
    site.plane.held.pop()()
    assert site.version == version + 2
    site.plane.held.pop()()
    assert site.version == version + 2
    assert site.plane.held == []
    assert [site.levels(name) for name in "abc"] == [one_level(101)] * 3
    assert site.plane.applied[-1][1] == ["a", "b", "c"]


def test_plane_that_refuses_does_not_end_the_following() -> None:
    """It is logged, and the next change is made."""
    site = Site()
    site.set("web", WEB, 1)
    site.plane.error = ConfigError("no")
    site.lists("web", 2)
    site.plane.error = None
    site.lists("web", 3)
    assert site.levels("web") == one_level(3)


def test_store_that_cannot_be_served_keeps_no_server_from_changing() -> None:
    """What somebody else has written is still told of in the status."""
    board = Board()
    site = Site(BoardStore(board))
    site.set("web", WEB, 1)
    board.write([Value("upstream", "a", upstream(0))])
    board.tell()
    assert "upstreams.a" in site.actions.failed
    site.lists("web", 2)
    assert site.levels("web") == one_level(2)
    assert "upstreams.a" in site.actions.failed


# The start, and who else changes the whole.


def test_start_waits_for_the_first_answers() -> None:
    """The first snapshot has the servers; not for ever, and the servers come later then."""
    for ports in ((1, 2), ()):
        late = {"dns_service": "late"}
        site = Site(begin=False, services={"web": WEB, "late": late})
        if ports:
            site.catalogue.lists("web", *ports)
        assert not site.started.called
        site.clock.advance(FIRST)
        result_of(site.started)
        assert len(site.plane.applied) == 1
        assert site.levels("web") == (one_level(*ports) if ports else ())
        site.lists("late", 5)
        assert site.levels("late") == one_level(5)


def test_store_holds_services() -> None:
    """A restart finds them, also those that were removed or given back to the file."""
    store = MemoryStore()
    settings = {"services": {"f": WEB, "g": WEB}}
    site = Site(store, **settings)
    site.set("mine", {"dns_service": "mine"}, 1)
    result_of(site.actions.services.remove("f", "ops"))
    state = store.state
    assert state.services == {"mine": {"dns_service": "mine"}, "f": None}
    heir_store = MemoryStore()
    heir_store.take_over(state)
    heir = Site(heir_store, **settings)
    assert heir.actions.services.all() == {"mine": {"dns_service": "mine"}, "g": WEB}
    assert heir.actions.services.origins() == {"mine": "control", "g": "file"}
    assert heir.actions.origins()["shadowed"] == ["services.f"]
    result_of(heir.actions.services.give_back("f", "ops"))
    assert list(heir.actions.services.all()) == ["f", "g", "mine"]
    result_of(heir.actions.services.give_back("mine", "ops"))
    assert list(heir.catalogue.told) == ["web"]


def test_stored_service_that_cannot_be_read() -> None:
    """It is left out and shown, and can be removed or set right."""
    state = StoredState(3, services={"web": {"dns_service": 5}, "b": {**WEB, "odd": 1}})
    site = Site(FakeStore(state))
    assert list(site.actions.services.all()) == ["b"]
    assert "services.web.dns_service" in site.actions.status()["failed"]["services.web"]
    assert any("services.b.odd" in line for line in site.actions.status()["ignored"])
    with pytest.raises(NotFoundError, match="no service web in use: services"):
        site.actions.services.one("web")
    assert "web is a service" in error_of(
        site.actions.set_upstream("web", upstream(1), "x"), ConflictError
    )
    site.set("web", WEB, 1)
    assert "failed" not in site.actions.status()
    assert site.levels("web") == one_level(1)


def test_hup_takes_services() -> None:
    """New ones are followed, those that are gone are not, and those that stay are not touched."""
    site = Site(services={"a": {"dns_service": "a"}, "b": {"dns_service": "b"}})
    site.lists("a", 1)
    site.lists("b", 2)
    kept = site.plane.snapshot.upstreams["a"]
    settings = parse_settings({"services": {"a": {"dns_service": "a"}, "c": {"dns_service": "c"}}})
    result_of(site.actions.take_settings(settings, "HUP"))
    assert sorted(site.plane.applied[-1][1]) == ["b", "c"]
    assert site.plane.snapshot.upstreams["a"] is kept
    assert site.levels("c") == ()
    assert sorted(site.catalogue.told) == ["a", "c"]
    site.lists("c", 3)
    assert site.levels("c") == one_level(3)
    assert result_of(site.actions.take_settings(settings, "HUP")) is None


def test_state_of_before_has_its_services() -> None:
    """Going back brings a service back, with the servers that it has now."""
    site = Site()
    site.set("web", WEB, 1)
    before = site.actions.held
    result_of(site.actions.services.remove("web", "ops"))
    assert site.plane.snapshot.upstreams == {}
    result_of(site.actions.take_desired(before, "ops"))
    assert site.actions.services.all() == {"web": WEB}
    site.lists("web", 2)
    assert site.levels("web") == one_level(2)


def test_history_of_services() -> None:
    """It tells what operators changed and not what the catalogue did; the way back is that of all
    changes, and what the file said is told apart."""
    file = {**WEB, "user": "u", "pass": "word"}
    site = Site(MemoryStore(), services={"f": file})
    actions = site.actions
    site.set("mine", {"dns_service": "mine"}, 1)
    site.lists("mine", 2)
    result_of(actions.services.remove("f", "ops"))
    result_of(actions.services.give_back("f", "ops"))
    told = result_of(ensureDeferred(actions.history.page(None, 100)))
    changes = [(one["version"], one["kind"], one["name"], one["diff"]) for one in told]
    assert [one[:3] for one in changes] == [
        (4, "service", "f"),
        (3, "service", "f"),
        (1, "file", "services.f"),
        (1, "service", "mine"),
    ]
    assert changes[0][3].startswith("returned to the file's")
    assert "word" not in repr(told)
    then = result_of(ensureDeferred(actions.history.version(3)))
    assert (then["services"], then["origins"]["services"]) == (
        {"mine": {"dns_service": "mine"}},
        {"mine": "control"},
    )
    then = result_of(ensureDeferred(actions.history.version(1)))
    assert then["origins"]["services"] == {"f": "file", "mine": "control"}
    assert then["services"]["f"] == {**file, "pass": "********"}
    settings = parse_settings({"services": {"f": WEB}})
    result_of(actions.take_settings(settings, "HUP"))
    rolled = result_of(ensureDeferred(actions.history.roll_back(1, "ops")))
    assert rolled.file == ["services.f"]
    assert site.levels("mine") == one_level(2)


def test_others_write_services() -> None:
    """A watched store brings them, too."""
    board = Board()
    site = Site(BoardStore(board))
    board.write([Value("service", "web", WEB)])
    board.tell()
    site.lists("web", 1)
    assert site.levels("web") == one_level(1)
    board.write([Value("service", "web", None)])
    board.tell()
    assert site.plane.snapshot.upstreams == {}
    assert site.catalogue.told == {}


def test_process_that_takes_over_goes_on_where_the_other_was() -> None:
    """With the servers that were known, and with a version that does not go back."""
    site = Site()
    site.set("web", WEB, 1)
    site.lists("web", 2)
    site.actions.hand_over()
    heir = Site(FakeStore(site.store.state), begin=False, before=site)
    result_of(heir.started)
    assert (heir.version, heir.levels("web")) == (2, one_level(2))
    # From the handover on the former process changes nothing.
    site.lists("web", 4)
    assert site.levels("web") == one_level(2)
    site.actions.moved()
    assert site.catalogue.is_stopped
    heir.lists("web", 3)
    assert (heir.version, heir.levels("web")) == (3, one_level(3))


# The calls.


def test_calls_of_services() -> None:
    """They are shown as they were written; the upstream is shown as it is now."""
    site = Site()
    client = WebClient(site.actions)
    assert client.call("GET", "/services").json == {}
    client.request("PUT", "/service/web", WEB)
    site.catalogue.lists("web", 1)
    reply = client.received()
    assert reply is not None
    assert (reply.status, reply.json, reply.headers["ETag"]) == (200, {"status": 200}, '"1"')
    assert client.call("GET", "/services").json == {"web": WEB}
    assert client.call("GET", "/service/web").json == WEB
    shown = client.call("GET", "/upstream/web")
    assert [server["port"] for server in shown.json["servers"]] == [1]
    assert shown.headers["X-Slardar-Origin"] == "service"
    assert client.call("DELETE", "/service/web", If_Match='"9"').status == 412
    assert client.call("DELETE", "/service/web").json == {"status": 200}
    for method, path in (("GET", "/service/web"), ("DELETE", "/service/web")):
        assert client.call(method, path).json["msg"] == "no service web"
    assert client.call("DELETE", "/service/web?to=file").json == {"status": 200}
    assert client.call("DELETE", "/service/never?to=file").status == 404
    assert client.call("GET", "/upstreams").json == {}


def test_wrong_body_changes_nothing() -> None:
    """And asks nobody."""
    site = Site()
    client = WebClient(site.actions)
    reply = client.call("PUT", "/service/web", {"dns_service": "web", "mode": "lost", "a": 1})
    assert reply.status == 400
    assert reply.json["msg"] == ("services.web.a: unknown key; services.web.mode: no balancer lost")
    reply = client.call("PUT", "/service/web", b'{"dns_service": "web", "mode": 1, "mode": 2}')
    assert reply.status == 400
    assert site.catalogue.begun == []


def test_service_is_made_without_an_answer() -> None:
    """The call waits for the catalogue, and not for ever; the servers come later."""
    site = Site()
    done = site.actions.services.set("web", WEB, "ops")
    site.clock.advance(FIRST - 0.1)
    assert not done.called
    site.clock.advance(0.1)
    assert result_of(done).version == 1
    assert site.levels("web") == ()
    site.lists("web", 1)
    assert (site.version, site.levels("web")) == (2, one_level(1))


def test_call_that_does_not_wait() -> None:
    """It does not wait for the catalogue, either."""
    site = Site()
    assert result_of(site.actions.services.set("web", WEB, "ops", wait=False)).version == 1
    site.lists("web", 1)
    assert (site.version, site.levels("web")) == (2, one_level(1))


def test_change_that_is_refused_follows_nothing() -> None:
    """Whatever refuses it."""
    site = Site()
    condition = Condition(['"7"'], [], ("service", "web"))
    done = site.actions.services.set("web", WEB, "ops", condition=condition)
    site.clock.advance(FIRST)
    error_of(done, PreconditionError)
    site.store.error = StoreError("full")
    done = site.actions.services.set("web", WEB, "ops")
    site.clock.advance(FIRST)
    error_of(done, StoreError)
    assert site.catalogue.begun == ["web", "web"]
    assert site.catalogue.told == {}


def test_other_origin_keeps_the_servers_until_it_is_answered() -> None:
    """A name that is not found at once does not stop the service; other keys hold at once."""
    site = Site()
    site.set("web", WEB, 1)
    done = site.actions.services.set("web", {"dns_service": "new", "mode": "wrr"}, "ops")
    site.catalogue.fails("new")
    result_of(done)
    assert site.levels("web") == one_level(1)
    assert site.plane.snapshot.upstreams["web"].mode == "wrr"
    assert list(site.catalogue.told) == ["new"]
    site.lists("new", 2)
    assert site.levels("web") == one_level(2)


def test_status_of_services() -> None:
    """When each was looked up last, and what went wrong."""
    site = Site(services={"web": WEB})
    assert "services" not in Site().actions.status()
    shown = site.actions.status()["services"]
    assert shown == {"web": {"dns_service": "web", "servers": 0, "looked_up": None}}
    site.catalogue.lists("web", 1, 2, note="1 of the records cannot be used: x:0")
    site.clock.advance(PAUSE)
    shown = site.actions.status()["services"]["web"]
    assert (shown["servers"], shown["note"]) == (2, "1 of the records cannot be used: x:0")
    assert isinstance(shown["looked_up"], str)
    assert "lookup" not in shown
    site.catalogue.fails("web", "no answer")
    shown = site.actions.status()["services"]["web"]
    assert shown["lookup"]["msg"] == "no answer"
    site.lists("web")
    shown = site.actions.status()["services"]["web"]
    assert ("empty_since" in shown, shown["servers"]) == (True, 2)


def test_passwords_are_not_shown() -> None:
    """As with upstreams; what stands for them may be sent back."""
    site = Site()
    secret = {**WEB, "user": "u", "pass": "word"}
    site.set("web", secret, 1)
    shown = site.actions.services.one("web")
    assert shown["pass"] != "word"
    assert site.actions.services.all() == {"web": shown}
    site.set("web", shown, 1)
    assert site.store.state.services == {"web": secret}


# A name is an upstream or a service.


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/upstream/web", upstream(1)),
        ("PUT", "/upstream/web?reload=1", upstream(1)),
        ("DELETE", "/upstream/web", None),
        ("DELETE", "/upstream/web?to=file", None),
        ("PATCH", "/upstream/web/127.0.0.1:1", {"weight": 5}),
        ("POST", "/upstream/web/127.0.0.1:2", {}),
        ("DELETE", "/upstream/web/127.0.0.1:1", None),
    ],
)
def test_upstream_of_a_service_cannot_be_changed(method: str, path: str, body: Any) -> None:
    """The answer says what it is, and where it can be changed."""
    site = Site()
    site.set("web", WEB, 1)
    reply = WebClient(site.actions).call(method, path, body)
    assert (reply.status, reply.json["msg"]) == (
        409,
        "web is a service whose servers come from dns_service web: change it with PUT or DELETE"
        " /service/web",
    )


def test_name_of_an_upstream_is_no_service() -> None:
    """Also one that cannot be read; once it is removed, the name is free."""
    site = Site(FakeStore(StoredState(1, {"lost": {"servers": 5}})), upstreams={"web": upstream(1)})
    for name in ("web", "lost"):
        said = error_of(site.actions.services.set(name, WEB, "ops"), ConflictError)
        assert said == f"{name} is an upstream: DELETE /upstream/{name} first"
        result_of(site.actions.remove_upstream(name, "ops"))
        site.set(name, WEB, 1)
    assert sorted(site.actions.services.all()) == ["lost", "web"]
    assert site.actions.origins()["shadowed"] == ["upstreams.web"]


def test_file_and_store_have_different_things_of_one_name() -> None:
    """What was set by a call counts, and the status says so; a file that is read again with such a
    name is refused.  Without the stored one the file's serves, as after a start."""
    stored = StoredState(1, {"a": upstream(1)}, services={"b": {"dns_service": "b"}})
    settings = {"services": {"a": {"dns_service": "a"}}, "upstreams": {"b": upstream(2)}}
    site = Site(FakeStore(stored), **settings)
    status = site.actions.status()
    assert status["failed"] == {
        "services.a": "services.a: left out, for a is an upstream, set through the control channel",
        "upstreams.b": "upstreams.b: left out, for b is a service, set through the control channel",
    }
    assert status["origins"]["shadowed"] == ["upstreams.b", "services.a"]
    other = Site(FakeStore(stored))
    said = error_of(other.actions.take_settings(parse_settings(settings), "HUP"), ConfigError)
    assert "services.a: left out" in said
    assert "upstreams.b: left out" in said
    result_of(site.actions.remove_upstream("a", "ops"))
    result_of(site.actions.services.remove("b", "ops"))
    assert list(site.actions.services.all()) == ["a"]
    assert sorted(site.actions.upstreams()) == ["a", "b"]
    assert "failed" not in site.actions.status()
    again = Site(FakeStore(site.store.state), **settings)
    assert again.actions.snapshot.fingerprint == site.actions.snapshot.fingerprint


def test_store_has_two_things_of_one_name() -> None:
    """The upstream serves; without it the service does."""
    both = StoredState(1, {"a": upstream(1)}, services={"a": {"dns_service": "a"}})
    site = Site(FakeStore(both))
    assert list(site.actions.services.all()) == []
    result_of(site.actions.remove_upstream("a", "ops"))
    assert list(site.actions.services.all()) == ["a"]
