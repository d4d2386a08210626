"""The memory that hooks hold: which hook is suspended for it, and the wall of the kernel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.hooks.budget import NOTICED
from slardar.hooks.loaded import Loaded
from slardar.hooks.memory import Limits, MemoryWatch, limits_of
from tests.dataplane.kit import logged
from tests.hooks.kit import code

MIB = 1 << 20
LIMITS = Limits(64 * MIB, 192 * MIB, 256 * MIB)


class Process:
    """A process whose memory is set by the test, in MiB."""

    def __init__(self, used: int = 100, expected: int = 0) -> None:
        self.used = used
        self.expected = expected
        #: What each hook holds, and how much of that can be had back.
        self.held: dict[Loaded, int] = {}
        self.leaks = False
        self.suspended: list[str] = []
        self.told: list[tuple[int, str]] = []
        self.grown = 0
        self.watch = MemoryWatch(
            LIMITS,
            lambda: self.expected * MIB,
            self.suspend,
            lambda mark, reason: self.told.append((mark, reason)),
            self.has_grown,
            usage=lambda: (self.used * MIB, 2 * self.used * MIB),
        )

    def has_grown(self) -> None:
        """Note that the process stays too large."""
        self.grown += 1

    def hook(self, name: str) -> Loaded:
        """A version of a hook."""
        return Loaded(f"python/{name}", code(name), None, "", {})

    def suspend(self, mark: int, reason: str) -> None:
        """Suspend a version, and let go what it holds."""
        (loaded,) = [one for one in self.held if one.mark == mark]
        self.suspended.append(loaded.path)
        size = self.held.pop(loaded)
        if not self.leaks:
            self.used -= size

    def call(self, loaded: Loaded, size: int, freed: int = 0) -> None:
        """Call a hook that makes ``size`` MiB, of which ``freed`` are let go after the call."""

        def run() -> None:
            self.used += size
            self.held[loaded] = self.held.get(loaded, 0) + size - freed

        if self.watch.pressure.is_high:
            self.watch.run(loaded, run)
        else:
            run()
        self.used -= freed
        self.watch.look()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[list[Any]]:
    """The lines that were logged."""
    with logged() as events:
        yield events
    NOTICED[0] = False


def test_little_is_nobodys() -> None:
    """While hooks hold little, no call is watched."""
    process = Process()
    one = process.hook("a")
    for _ in range(9):
        process.call(one, 10)
    assert not process.watch.pressure.is_high
    assert process.watch._added == {}
    process.call(one, 10)
    assert process.watch.pressure.is_high
    process.used -= 90
    process.watch.look()
    assert not process.watch.pressure.is_high
    assert process.suspended == []


def test_hook_that_added_most_is_suspended() -> None:
    """The hook that added most is suspended, with the reason.

    A hook that is called as often, or that is called when there is too much, is not.
    """
    process = Process()
    greedy, small = process.hook("greedy"), process.hook("small")
    while not process.suspended:
        process.call(greedy, 5)
        process.call(small, 1)
        assert process.used < 100 + 192 + 32 + 6
    assert process.suspended == ["python/greedy"]
    ((mark, reason),) = process.told
    assert mark == greedy.mark
    assert "MiB of memory" in reason
    for _ in range(20):
        process.call(small, 1)
    assert process.suspended == ["python/greedy"]


def test_as_many_are_suspended_as_must_be() -> None:
    """The largest are suspended first, until there is room; the other hooks go on."""
    process = Process()
    hooks = {size: process.hook(f"h{size}") for size in (1, 30, 50)}
    process.used += 97
    process.watch.look()
    for size, one in hooks.items():
        process.held[one] = size
        process.used += size
        process.watch.note(one, size * MIB)
    process.used += 200
    process.held[hooks[50]] += 10
    process.watch.note(hooks[50], 200 * MIB)
    process.watch.look()
    assert process.suspended[:2] == ["python/h50", "python/h30"][: len(process.suspended)]
    assert "python/h1" not in process.suspended


def test_many_small_hoarders_are_suspended_one_by_one() -> None:
    """None holds much, but all of them together do."""
    process = Process()
    hooks = [process.hook(f"h{n}") for n in range(100)]
    for turn in range(600):
        process.call(hooks[turn % 100], 1)
        assert process.used < 100 + 32 + 192 + 3
        if process.suspended and hooks[turn % 100] not in process.held:
            break
    assert process.suspended
    assert process.grown == 0


def test_connections_are_no_hooks() -> None:
    """Memory that connections account for is allowed in addition, and no more once they end."""
    process = Process()
    one = process.hook("a")
    process.expected = process.used = 3000
    process.watch.look()
    assert not process.watch.pressure.is_high
    process.used, process.expected = 100, 0
    for _ in range(12):
        process.call(one, 10)
    assert process.watch.pressure.is_high


def test_growth_by_no_hook_is_taken_as_it_is(quiet: list[Any]) -> None:
    """Growth that no hook caused is told and logged.

    Hooks that are called meanwhile are not blamed, and a hoarder that comes later is still found.
    """
    process = Process()
    one = process.hook("a")
    for _ in range(60):
        process.used += 10
        process.call(one, 0)
    assert process.suspended == []
    assert process.grown == 1
    assert any("more than its hooks" in event["log_format"] for event in quiet)
    before = process.used
    while not process.suspended:
        process.call(one, 10)
        assert process.used < before + 210
    assert process.suspended == ["python/a"]


def test_what_was_accepted_is_no_allowance() -> None:
    """Memory that was no hook's and is freed again leaves the limit as it was."""
    process = Process()
    one = process.hook("a")
    for _ in range(5):
        process.used += 400
        process.watch.look()
        process.used -= 400
        process.watch.look()
    while not process.suspended:
        process.call(one, 10)
        assert process.used <= 100 + 32 + 192 + 10


def test_what_cannot_be_had_back_is_told() -> None:
    """A process whose memory cannot be freed should be replaced; if it is not, it goes on."""
    process = Process()
    process.leaks = True
    one, other = process.hook("a"), process.hook("b")
    while not process.suspended:
        process.call(one, 10)
    assert process.suspended == ["python/a"]
    assert process.grown == 1
    while len(process.suspended) == 1:
        process.call(other, 10)
    assert process.suspended == ["python/a", "python/b"]
    assert process.grown == 1


def test_what_is_let_go_after_the_call_is_not_held_against_a_hook() -> None:
    """Memory that is freed after a call does not count against the hook.

    A thousand calls make much for their requests, while another hook keeps a little of each: the
    sum never exceeds what there is.
    """
    process = Process()
    busy, greedy = process.hook("busy"), process.hook("greedy")
    process.used += 100
    process.watch.look()
    for _ in range(1000):
        process.call(busy, 8, freed=8)
    assert process.suspended == []
    assert sum(process.watch._added.values()) <= 64 * MIB
    while not process.suspended:
        process.call(greedy, 10)
    assert process.suspended == ["python/greedy"]


def test_another_version_is_no_new_allowance() -> None:
    """However many versions are posted, the memory before the first hook stays the measure.

    What a body makes while it is loaded counts for its version.
    """
    process = Process()
    kept = [process.hook(f"h{n}") for n in range(40)]
    for number, one in enumerate(kept):
        before = process.watch.used()
        process.used += 10
        process.held[one] = 10
        process.watch.note(one, process.watch.used() - before)
        process.watch.keep(set(kept[: number + 1]))
        process.watch.look()
        assert process.used <= 100 + 32 + 192 + 10
    assert process.suspended


@pytest.mark.parametrize(
    ("workers", "soft", "wall"),
    [(1, 192, 256), (2, 192, 256), (3, 128, 192), (4, 96, 160), (64, 96, 160)],
)
def test_limits(workers: int, soft: int, wall: int) -> None:
    """The hooks of up to four workers together stay within 640 MiB."""
    limits = limits_of(workers)
    assert (limits.soft, limits.wall) == (soft * MIB, wall * MIB)
    assert workers > 4 or workers * limits.wall <= 640 * MIB


#: Hooks that fill a process up to a wall of 40 MiB, where nobody suspends them before.
FILLER = """
import resource, time
from slardar.config import Hooks
from slardar.hooks.memory import Limits, MemoryWatch, RESERVE
from slardar.hooks.runner import Runner
from slardar.http1.request import parse_request
from tests.hooks.kit import code, hook, hooks

FULL = "K = []\\ndef on_request(r):\\n    for _ in range(4):\\n        K.append('x' * 1000000)\\n"
HARMLESS = "def on_request(r):\\n    r.headers['X-A'] = str(len(r.path))\\n"
failed = []
runner = Runner(Hooks(), time.monotonic, lambda loaded: failed.append(loaded.path))
runner.engine("python")
watch = MemoryWatch(Limits(1 << 20, 1 << 40, 40 << 20), lambda: 0, runner.suspend, has_wall=True)
# The engine is there already.
watch._base = watch.used()
runner.watch(watch)
first = watch.used()
runner.load(hooks(hook("script.full.test", code(FULL)), hook("script.a.test", code(HARMLESS))))
def ask(host):
    request = parse_request(b"GET / HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % host)
    hooked = runner.request(request)
    return hooked.answer.status if hooked is not None and hooked.answer is not None else 0
statuses = []
for _ in range(30):
    statuses.append((ask(b"full.test"), ask(b"a.test")))
    watch.look()
# What is no hook has room left, and the wall is there still.
room = [bytes(1 << 20) for _ in range(RESERVE // 2 >> 20)]
del room
print(statuses)
print(sorted(set(failed)), len(failed))
print((watch.used() - first) >> 20)
try:
    bytes(2 << 30)
    print("no wall")
except MemoryError:
    print("wall")
print([one.state for versions in runner._loader.scripts.values() for one in versions.all()])
"""


@pytest.mark.real
def test_kernel_lets_nothing_of_a_hook_past_the_wall() -> None:
    """A MemoryError is a failure of the hook, and the fifth one suspends it.

    A hook that needs little goes on, and so does everything that is no hook.
    """
    done = subprocess.run(
        [sys.executable, "-c", FILLER], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    statuses, failed, grown, wall, states = done.stdout.splitlines()
    assert eval(failed.partition("] ")[0] + "]") == ["python/script.full.test"], done.stdout
    assert failed.endswith(" 5")
    pairs = eval(statuses)
    assert {full for full, _ in pairs} == {0, 500}
    assert {other for _, other in pairs} == {0}
    assert int(grown) <= 45
    assert wall == "wall"
    assert sorted(eval(states)) == ["active", "suspended"]
