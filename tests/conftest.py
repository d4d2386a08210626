"""What holds for every test: the marker ``real``, and a heap that is quick to look through.

A test is *real* if it uses a socket with an address, looks up a name or starts a process,
or if it measures CPU time, which tests beside it would stretch.
The marker ``real`` says so, on the test or on its module; everything in ``integration`` is
real by its place.  ``@pytest.mark.real(False)`` excepts a test.  ``--real=no`` runs the
tests that are not real, and fails each of them that turns out to be.

A real test that another one beside it would disturb, since it compares times, has the marker
``alone``.

A pair of sockets, a pipe and an epoll belong to the test's process alone, and are not real.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

# The same cases each time, and none fails because the machine is busy.
settings.register_profile("steady", deadline=None, derandomize=True, database=None)
settings.load_profile("steady")

if TYPE_CHECKING:
    from tests.browser import Browser
    from tests.consul_agent import ConsulAgent

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
#: The files of tests that take minutes each.
LONGEST = ("test_compiled.py", "test_upgrade.py")
#: The audit events of what only real tests may do.
EVENTS = frozenset(
    (
        "os.exec",
        "os.fork",
        "os.forkpty",
        "os.posix_spawn",
        "os.system",
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyaddr",
        "socket.gethostbyname",
        "socket.getnameinfo",
        "socket.sendmsg",
        "socket.sendto",
        "subprocess.Popen",
    )
)


class Watch:
    """Notes what the test under way does that only real tests may do.

    It lets everything happen: an error out of an audit hook could be caught by the code
    under test, or let it wait for something that never comes.
    """

    def __init__(self) -> None:
        #: Whether a test is under way: its fixtures, its body and what cleans up after it.
        self.on = False
        self.notes: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Python's audit hook; it hears every thread."""
        if not self.on or event not in EVENTS:
            return
        if event == "socket.sendmsg" and arguments[1] is None:
            return  # to the other end of a pair
        self.notes.append(f"{event}{self._place()}")

    def _place(self) -> str:
        """The nearest line of this checkout."""
        frame = sys._getframe(2)
        while frame is not None:
            file = Path(frame.f_code.co_filename)
            if file.is_relative_to(CHECKOUT) and "site-packages" not in file.parts:
                return f" in {file.relative_to(CHECKOUT)}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""


WATCH = Watch()


def is_real(item: pytest.Item) -> bool:
    """Whether a test is said to be real: the nearest marker decides, then the folder."""
    marker = item.get_closest_marker("real")
    if marker is not None:
        return marker.args != (False,)
    return item.path.is_relative_to(TESTS / "integration")


def is_wanted(item: pytest.Item, wanted: str) -> bool:
    """Whether ``--real`` asks for a test."""
    if wanted == "no" or not is_real(item):
        return wanted == "no" and not is_real(item)
    is_alone = item.get_closest_marker("alone") is not None
    return wanted == "only" or is_alone == (wanted == "alone")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which tests to run, real ones or others; ``-m`` and ``-k`` may choose among them."""
    parser.addoption(
        "--real",
        choices=("yes", "no", "only", "beside", "alone"),
        default="yes",
        help="whether to run tests that use sockets or start processes; of these, those that may"
        " run beside each other, or those that run alone",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Listen, where no real test runs."""
    if config.getoption("real") == "no":
        sys.addaudithook(WATCH.hear)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what ``--real`` leaves out."""
    wanted = config.getoption("real")
    if wanted == "yes":
        return
    kinds: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        kinds[is_wanted(item, wanted)].append(item)
    # The longest first, so that nobody waits for it in the end; the rest stays as it is.
    items[:] = sorted(kinds[True], key=lambda item: item.path.name not in LONGEST)
    config.hook.pytest_deselected(items=kinds[False])


def hide_heap() -> None:
    """Hide what there is from the garbage collector."""
    gc.collect()
    gc.freeze()


def pytest_collection_finish() -> None:
    """Hide the tests: with thousands of them, each full collection takes 0.3 s."""
    hide_heap()


@pytest.fixture(scope="module")
def _hidden_heap() -> None:
    """For modules whose tests each collect garbage: hide what earlier tests have left."""
    hide_heap()


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulAgent]:
    """A real Consul for all tests of a module, each of which has keys of its own."""
    # Imported late: few test files need it.
    from tests.consul_agent import ConsulAgent

    agent = ConsulAgent(tmp_path_factory.mktemp("consul") / "one")
    yield agent
    agent.end()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    """Chromium, quit after the test."""
    # Imported late: few test files need it.
    from tests.browser import Browser

    with Browser(tmp_path) as browser:
        yield browser


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Watch a test from the setup of its first fixture to the end of its last one."""
    WATCH.notes.clear()
    WATCH.on = True
    try:
        return (yield)
    finally:
        WATCH.on = False


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Fail a test that was real without a marker, once its fixtures are gone."""
    yield
    if WATCH.notes:
        pytest.fail(
            f"not marked real, but it was: {', '.join(dict.fromkeys(WATCH.notes))}", pytrace=False
        )
