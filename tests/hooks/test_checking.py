"""A real process that serves no requests checks code, within limits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.task import Clock

from slardar.config import Hooks
from slardar.hooks.checker import CPU, Item, Result, frame, frames
from slardar.hooks.checking import Checker, NoCheckError
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import mark_of
from tests.dataplane.kit import logged
from tests.hooks.kit import code, hook, hooks

pytestmark = pytest.mark.real

HEAD = "def on_request(request):\n"
GOOD = HEAD + "    pass\n"
#: What Python's compiler takes long for: it writes twice what stands behind ``finally``, and so
#: 16,384 times what stands behind fourteen of them.
SLOW = HEAD + "".join(
    "    def f():\n"
    + "".join(f"{' ' * n}try: pass\n{' ' * n}finally:\n" for n in range(8, 22))
    + f"{' ' * 22}pass\n"
    for _ in range(200)
)
#: Each of these is refused, and in the end so are all others after it that are wrong.
BOMBS = [
    ("python", HEAD + "    x = f'" + "{1}" * 80_000 + "'\n", "at most 1000 fields"),
    ("python", HEAD + "    x = " + "-" * 200_000 + "1\n", "less deeply nested"),
    ("python", HEAD + "    x = " + "(" * 100_000 + "\n", "too many nested parentheses"),
    ("python", HEAD + "    x = " + "lambda:" * 30_000 + "1\n", "less deeply nested"),
    ("python", HEAD + "    x = " + "a" + ".b" * 100_000 + "\n", "nested"),
    ("python", HEAD + "    x = (" + "1," * 120_000 + ")\n", "too many parts"),
    ("python", HEAD + "    x = 0x" + "f" * 250_000 + "\n", "4096 bits"),
    ("python", HEAD + "    x = " + "9" * 250_000 + "\n", "the limit (4300"),
    ("lua", "local t = " + "{" * 120_000 + "\n", "too many syntax levels"),
    ("lua", "local t = " + "(" * 120_000 + "\n", "too many syntax levels"),
    ("lua", "return " + "not " * 60_000 + "1\n", "too many syntax levels"),
    ("lua", "".join(f"local a{n} = {n}\n" for n in range(300)), "more than 200 local variables"),
    ("lua", "local t = {" + ",".join(f"{n}.5" for n in range(30_000)) + "}\n", ""),
    ("python", HEAD + "    x = 9 ** 9 ** 9\n", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def checker() -> Iterator[Checker]:
    """One checker for all tests, which must survive them."""
    from twisted.internet import reactor  # noqa: TID251

    found = Checker(reactor, Hooks())
    yield found
    found.stop()


def pid_of(checker: Checker) -> int:
    """The id of the checker's process."""
    process: Any = checker._process
    return int(process.transport.pid)


def children(pid: int) -> list[int]:
    """The children of a process."""
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.parametrize(("language", "text", "says"), BOMBS)
@pytest.mark.parametrize("modules", [None, {}])
@pytest_twisted.ensureDeferred
async def test_bomb(
    checker: Checker, language: str, text: str, says: str, modules: dict[str, str] | None
) -> None:
    """The code is refused in one line, or fit, and soon.

    The process survives, and the next code is fit.
    """
    await checker.check_one(Item("python", "script.a", GOOD))
    pid = pid_of(checker)
    began = time.monotonic()
    try:
        await checker.check_one(Item(language, "script.a", text, modules))
        said = ""
    except ScriptError as error:
        said = str(error)
        assert said.startswith("script.a: ")
        assert "\n" not in said
    assert says in said, said
    assert bool(says) == bool(said), said
    assert time.monotonic() - began < 10
    await checker.check_one(Item("python", "script.a", GOOD))
    assert pid_of(checker) == pid
    assert children(pid) == []


@pytest.mark.parametrize(
    ("language", "text"),
    [("python", "X = settings.x.y\n" + GOOD), ("lua", "local m = require('modules.m')")],
)
@pytest_twisted.ensureDeferred
async def test_code_may_read_settings_while_it_is_loaded(
    checker: Checker, language: str, text: str
) -> None:
    """As it would where it is to run: without the setting it cannot be loaded."""
    modules = {"modules.m": "return slardar.x.y + 1"}
    for settings in ({}, {"y": "1"}):
        with pytest.raises(ScriptError, match=r"settings\.x|nil value"):
            await checker.check_one(Item(language, "script.a", text, modules, settings))
    await checker.check_one(Item(language, "script.a", text, modules, {"x": '{"y":1}'}))


@pytest_twisted.ensureDeferred
async def test_what_is_loaded_for_a_check_is_limited(checker: Checker) -> None:
    """A module whose body fills the memory is refused, in Lua, too."""
    fills = "K = []\nfor i in range(60):\n    K.append('x' * 1000000)\n" + GOOD
    with pytest.raises(ScriptError, match="memory"):
        await checker.check_one(Item("python", "script.a", fills, {}))
    endless = "while True:\n    pass\n" + GOOD
    with pytest.raises(ScriptError, match="CPU time"):
        await checker.check_one(Item("python", "script.a", endless, {}))


@pytest_twisted.ensureDeferred
async def test_check_waits_for_no_other(checker: Checker) -> None:
    """Posted code is checked while the code of a store takes its two seconds.

    Dangerous code in the store is found among other code.  Code that is only wrong is left to the
    workers.
    """
    bad, odd = code(SLOW), code("x y")
    some = hooks(
        hook("script.a", GOOD),
        hook("script.b", GOOD, staged=bad),
        hook("script.c", odd),
        hook("script.d", GOOD),
    )
    slow = defer.ensureDeferred(checker.find_dangerous(some))
    began = time.monotonic()
    for _ in range(5):
        assert await checker.check_one(Item("python", "script.b", GOOD)) == ()
    assert not slow.called
    assert time.monotonic() - began < 1.5
    assert await slow == {
        mark_of("python/script.b", bad): f"script.b: expected code that is loaded within {CPU} s"
        " of CPU time"
    }
    assert await checker.find_dangerous({}) == {}


@pytest_twisted.ensureDeferred
async def test_crash_is_the_codes_fault(checker: Checker) -> None:
    """Code that ends the child by a signal is refused, and the process itself goes on."""
    await checker.check_one(Item("python", "script.a", GOOD))
    slow = defer.ensureDeferred(checker.check_one(Item("python", "script.a", SLOW)))
    slow.addErrback(lambda failure: failure.value)
    pid = pid_of(checker)

    async def crash() -> None:
        while not children(pid):
            await _turn()
        os.kill(children(pid)[0], signal.SIGSEGV)

    await crash()
    assert "ended by signal 11" in str(await slow)
    assert pid_of(checker) == pid


@pytest_twisted.ensureDeferred
async def test_process_that_was_killed_is_started_again(checker: Checker) -> None:
    """The new process is asked once more."""
    await checker.check_one(Item("python", "script.a", GOOD))
    pid = pid_of(checker)
    with logged():
        os.kill(pid, signal.SIGKILL)
        assert await checker.check_one(Item("python", "script.a", GOOD)) == ()
    assert pid_of(checker) != pid


@pytest_twisted.ensureDeferred
async def test_no_text(checker: Checker) -> None:
    """Code that cannot be written as UTF-8 is refused, and no process is asked."""
    with pytest.raises(ScriptError, match="expected text in UTF-8"):
        await checker.check_one(Item("python", "script.a", "\ud800"))


@pytest_twisted.ensureDeferred
async def test_nobody_can_look() -> None:
    """With a reactor that starts no processes, checking fails at once."""
    with pytest.raises(NoCheckError):
        await Checker(Clock(), Hooks()).check_one(Item("python", "script.a", GOOD))


@pytest_twisted.ensureDeferred
async def test_stopped_one_leaves_nothing_behind() -> None:
    """A stopped checker has no process and no question, and starts no process any more."""
    from twisted.internet import reactor  # noqa: TID251

    checker = Checker(reactor, Hooks())
    asked = defer.ensureDeferred(checker.check_one(Item("python", "script.a", SLOW)))
    asked.addErrback(lambda failure: failure.value)
    pid = pid_of(checker)
    checker.stop()
    assert isinstance(await asked, NoCheckError)
    with pytest.raises(NoCheckError):
        await checker.check_one(Item("python", "script.a", GOOD))

    try:
        # A zombie has no command line.
        while Path(f"/proc/{pid}/cmdline").read_text():
            await _turn()
    except OSError:
        pass  # nothing is left of it


def test_frames() -> None:
    """Messages are found in whatever pieces their bytes come."""
    sent = [Result(("modules.x",)), Result((), "é" * 1000, True)]
    data = b"".join(map(frame, sent))
    buffer, found = bytearray(), []
    for place in range(len(data)):
        buffer += data[place : place + 1]
        found += list(frames(buffer))
    assert found == [frame(one)[4:] for one in sent]
    assert buffer == b""


async def _turn() -> None:
    from twisted.internet import reactor  # noqa: TID251

    waiting: defer.Deferred[None] = defer.Deferred()
    the_reactor: Any = reactor
    the_reactor.callLater(0.01, waiting.callback, None)
    await waiting
