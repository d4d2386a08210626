"""What catalogues listed last, in a file: real files, and a clock and a catalogue of the test."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from slardar.catalogues import kept
from slardar.catalogues.kept import KeptListings
from slardar.catalogues.watch import KNOWN, PAUSE, ServiceWatch
from slardar.model.service import Service
from slardar.resolve import FIRST
from tests.catalogues.kit import HandCatalogue, one_level, service_of

GRACE = 30.0
A, B = service_of("a", empty_grace=GRACE), service_of("b", empty_grace=GRACE)


class Node:
    """A process with the services a and b.  Time goes on with ``clock``, also from one process to
    the next; calls that may block are made at once, or with ``wait`` when the test says so."""

    def __init__(self, path: Path, clock: Clock, wait: bool = False) -> None:
        self.path = path
        self.clock = clock
        self.catalogue = HandCatalogue()
        self.watch = ServiceWatch(clock, {"dns_service": self.catalogue})
        self.calls: list[Callable[[], None]] = []
        self._waits = wait
        self.kept = KeptListings(self.watch, str(path), clock, clock.seconds, self._in_thread)

    def _in_thread(self, _: Any, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        if not self._waits:
            return maybeDeferred(call, *arguments)
        done: Deferred[None] = Deferred()
        self.calls.append(lambda: maybeDeferred(call, *arguments).chainDeferred(done))
        return done

    def begin(self, *services: Service) -> Deferred[None]:
        return Deferred.fromCoroutine(
            self.watch.begin({one.name: one for one in services or (A, B)})
        )

    def listed(self, *ports: int, name: str = "a") -> None:
        """The catalogue lists these servers, and the file says so."""
        self.catalogue.lists(name, *ports)
        self.clock.advance(1)

    def close(self) -> None:
        done = Deferred.fromCoroutine(self.kept.close())
        self.watch.stop()
        assert done.called


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.advance(1e9)
    return clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "services.json"


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The texts of what it logs."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "slardar.catalogues":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


def test_start_without_the_catalogue(path: Path, clock: Clock, log: list[str]) -> None:
    """Serves what was listed last, however long ago; a process that is killed has written it a
    second after the change.  What the catalogue lists later replaces it, in the file, too."""
    node = Node(path, clock)
    node.begin()
    node.listed(1, 2)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name]
    clock.advance(1e7)
    after = Node(path, clock)
    started = after.begin()
    assert not started.called
    after.catalogue.fails("a")
    after.catalogue.fails("b")
    assert started.called
    assert (after.watch.levels(A), after.watch.levels(B)) == (one_level(1, 2), None)
    assert after.watch.shown()["a"].reason == "no answer"
    assert log[0] == f"{path}: 1 services begin with the servers that were listed last"
    after.listed(3, 4)
    assert after.watch.levels(A) == one_level(3, 4)
    third = Node(path, clock)
    third.begin()
    assert third.watch.levels(A) == one_level(3, 4)


@pytest.mark.parametrize(("services", "seconds"), [((A,), KNOWN), ((A, B), FIRST)])
def test_silent_catalogue_delays_a_start_little(
    path: Path, clock: Clock, services: tuple[Service, ...], seconds: float
) -> None:
    """If it is known what it listed last of every service."""
    node = Node(path, clock)
    node.begin(A)
    node.listed(1)
    after = Node(path, clock)
    started = after.begin(*services)
    clock.advance(seconds - 0.1)
    assert not started.called
    clock.advance(0.2)
    assert started.called
    assert after.watch.levels(A) == one_level(1)


def test_emptied_catalogue_at_a_start(path: Path, clock: Clock) -> None:
    """What was listed last stays for the grace, as if there had been no start."""
    node = Node(path, clock)
    node.begin()
    node.listed(1, 2)
    node.close()
    after = Node(path, clock)
    after.begin()
    after.catalogue.lists("a")
    assert after.watch.levels(A) == one_level(1, 2)
    clock.advance(GRACE)
    assert after.watch.levels(A) == ()


def test_grace_goes_on_without_a_process(path: Path, clock: Clock) -> None:
    """Servers that had gone before the end do not come back, and no grace is as long as two."""
    node = Node(path, clock)
    node.begin()
    node.listed(1, 2)
    node.listed()
    node.close()
    clock.advance(GRACE - 3)
    during = Node(path, clock)
    during.begin()
    assert during.watch.levels(A) == one_level(1, 2)
    clock.advance(3)
    assert during.watch.levels(A) == ()
    late = Node(path, clock)
    late.begin()
    assert late.watch.levels(A) == ()


def test_changes_are_gathered(path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A storm is written once a second; what came last, at the end."""
    written = []
    replace = kept._replace
    monkeypatch.setattr(
        kept, "_replace", lambda *arguments: (written.append(0), replace(*arguments))
    )
    node = Node(path, clock)
    node.begin()
    for number in range(100):
        node.catalogue.lists("a", number + 1)
        clock.advance(0.05)
    assert 4 <= len(written) <= 6
    node.catalogue.lists("a", 999)
    node.close()
    assert not [one for one in clock.getDelayedCalls() if one.active()]
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) == one_level(999)


def test_last_change_waits_for_the_write_before(path: Path, clock: Clock) -> None:
    """The end writes what came while the disk was busy, and two writes are never under way."""
    node = Node(path, clock, wait=True)
    node.watch.recall = None
    node.begin()
    node.listed(1)
    node.listed(2)
    done = Deferred.fromCoroutine(node.kept.close())
    node.watch.stop()
    (first,) = node.calls
    first()
    assert not done.called
    _, last = node.calls
    last()
    assert done.called
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) == one_level(2)


def test_disk_that_hangs_does_not_hold_up_the_end(path: Path, clock: Clock) -> None:
    node = Node(path, clock, wait=True)
    node.watch.recall = None
    node.begin()
    node.listed(1)
    done = Deferred.fromCoroutine(node.kept.close())
    clock.advance(5)
    assert done.called


def test_no_services_no_file(path: Path, clock: Clock) -> None:
    """Nothing is read or written, also if a service is refused; one that comes later is kept."""
    path.write_text("whatever")
    node = Node(path, clock, wait=True)
    assert Deferred.fromCoroutine(node.watch.begin({})).called
    node.watch.hold(A)()
    clock.advance(100)
    assert (node.calls, path.read_text()) == ([], "whatever")
    node.watch.follow({"a": A})
    node.listed(1)
    assert len(node.calls) == 1


def test_service_that_is_removed_leaves_the_file(path: Path, clock: Clock) -> None:
    node = Node(path, clock)
    node.begin()
    node.listed(1)
    node.watch.follow({})
    clock.advance(1)
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) is None


def changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    data = path.read_bytes()
    path.write_bytes(change(data))
    assert path.read_bytes() != data


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-9], "DecodeError"),
        (lambda data: b"", "DecodeError"),
        (lambda data: b'{"version": 3}', "ValidationError"),
        (lambda data: data.replace(b"services-1", b"services-0"), "ValidationError"),
        (lambda data: data.replace(b'"port":1,', b'"port":7,'), "the checksum is wrong"),
        (lambda data: data + b" " * (32 << 20), "more than"),
    ],
)
def test_file_that_is_no_use(
    path: Path, clock: Clock, log: list[str], change: Callable[[bytes], bytes], reason: str
) -> None:
    """Is ignored with one line, and replaced once something is listed."""
    node = Node(path, clock)
    node.begin()
    node.listed(1)
    node.close()
    changed(path, change)
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) is None
    (line,) = log
    assert line.startswith(f"{path}: is not used: ")
    assert reason in line
    after.listed(2)
    third = Node(path, clock)
    third.begin()
    assert third.watch.levels(A) == one_level(2)


def test_pipe_does_not_hold_up_a_start(path: Path, clock: Clock, log: list[str]) -> None:
    os.mkfifo(path)
    Node(path, clock).begin()
    assert log == [f"{path}: is not used: ValueError: it is no regular file"]


def test_full_disk(
    path: Path, clock: Clock, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is logged once; the file before stays whole, and it is tried again once a minute."""
    node = Node(path, clock)
    node.begin()
    node.listed(1)
    whole = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        for port in range(2, 200):
            node.listed(port)
        assert log == [f"{path}: cannot be written: OSError: [Errno 28] No space left on device"]
        assert (path.read_bytes(), os.listdir(path.parent)) == (whole, [path.name])
    clock.advance(60)
    assert log[1:] == [f"{path}: is written again"]
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) == one_level(199)


def test_what_would_be_too_big_is_not_written(
    path: Path, clock: Clock, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "_LIMIT", 1000)
    node = Node(path, clock)
    node.begin()
    node.listed(1)
    whole = path.read_bytes()
    node.listed(*range(1, 100))
    assert path.read_bytes() == whole
    assert "more than 1000" in log[0]


def test_upgrade_in_place(path: Path, clock: Clock) -> None:
    """What the process before has known wins over the file; it writes nothing while the next one
    may, and goes on if the next one has failed."""
    old = Node(path, clock)
    old.begin()
    old.listed(1)
    assert Deferred.fromCoroutine(old.kept.pause()).called
    whole = path.read_bytes()
    old.listed(2)
    clock.advance(100)
    assert path.read_bytes() == whole
    new = Node(path, clock)
    new.watch.learn(old.watch.known())
    assert new.begin(A).called
    assert new.watch.levels(A) == one_level(2)
    clock.advance(PAUSE)
    new.close()
    assert path.read_bytes() != whole
    whole = path.read_bytes()
    old.listed(3)
    assert path.read_bytes() == whole
    old.kept.resume()
    clock.advance(1)
    after = Node(path, clock)
    after.begin()
    assert after.watch.levels(A) == one_level(3)


def test_end_after_the_upgrade_writes_nothing(path: Path, clock: Clock) -> None:
    old = Node(path, clock)
    old.begin()
    old.listed(1)
    assert Deferred.fromCoroutine(old.kept.pause()).called
    old.listed(2)
    whole = msgspec.json.decode(path.read_bytes())
    old.close()
    old.kept.resume()
    clock.advance(100)
    assert msgspec.json.decode(path.read_bytes()) == whole
