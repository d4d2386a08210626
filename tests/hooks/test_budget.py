"""A call that uses up its CPU budget is stopped, and nothing else is affected."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.hooks import budget as budgets
from slardar.hooks.budget import HOOK_NAME, Budget, OutOfBudget, OutOfMemory, charge, check


def hook(code: str) -> Any:
    """The function ``f`` of some code, which counts as code of a hook."""
    names: dict[str, Any] = {"__name__": HOOK_NAME, "check": check}
    FunctionType(compile(code, "<hook>", "exec"), names)()
    return names["f"]


@pytest.fixture
def budget() -> Iterator[Budget]:
    made = Budget(0.05)
    made.start()
    yield made
    made.stop()


ENDLESS = [
    "\n while True: pass",
    "\n try:\n  while True: pass\n except Exception:\n  while True: pass",
    "\n while True:\n  try:\n   while True: 1 / 0\n  except ZeroDivisionError: pass",
    "\n try:\n  while True: pass\n finally:\n  check()\n  while True: pass",
    "[x for _ in iter(int, 1) for x in ()]",
    "sorted([1, 2], key=lambda x: [1 for _ in iter(int, 1)])",
    "any(False for _ in iter(int, 1))",
    "list(map(lambda x: x, iter(int, 1)))",
    "\n for n in range(10 ** 9):\n  str(n)",
]


@pytest.mark.parametrize("body", ENDLESS)
def test_endless_call_is_stopped_within_twice_its_budget(budget: Budget, body: str) -> None:
    """The call is not stopped before its budget is used up, either."""
    function = hook(f"def f(): {body}")
    began = time.thread_time()
    with pytest.raises(OutOfBudget):
        budget.run(function)
    taken = time.thread_time() - began
    assert 0.05 <= taken < 0.1


def test_finally_of_many_levels_adds_nothing(budget: Budget) -> None:
    """The check that the policy puts at the beginning of each ``finally`` ends them all."""
    function = hook(
        "def f(n=200):\n"
        " try:\n"
        "  if n: f(n - 1)\n"
        "  while True: pass\n"
        " finally:\n"
        "  check()\n"
        "  while True: pass\n"
    )
    began = time.thread_time()
    with pytest.raises(OutOfBudget):
        budget.run(function)
    assert time.thread_time() - began < 0.1


def test_time_outside_of_calls_does_not_count(budget: Budget) -> None:
    """Many calls that each take less than the budget, and work between them, are not stopped."""
    function = hook("def f():\n for n in range(20000): n * n")
    end = time.thread_time() + 0.3
    calls = 0
    while time.thread_time() < end:
        budget.run(function)
        calls += 1
    assert calls > 10


def test_results_and_errors_pass() -> None:
    """Otherwise it is a plain call."""
    budget = Budget(1)
    assert budget.run(lambda one, two: one + two, 1, 2) == 3
    with pytest.raises(KeyError):
        budget.run({}.__getitem__, "a")


def test_exception_comes_out_of_the_call_only() -> None:
    """A tick at any instruction around thousands of short calls does no harm.

    The budget is so short that at most ticks the call is over it, or nearly so.
    """
    budget = Budget(5e-5)
    budget.start()
    # Faster than any budget would have it.
    signal.setitimer(signal.ITIMER_VIRTUAL, 1e-4, 1e-4)
    function = hook("def f(n):\n for _ in range(n): pass\n return n")
    stopped = done = 0
    try:
        end = time.monotonic() + 3
        while (stopped < 50 or done < 1000) and time.monotonic() < end + 20:
            try:
                for size in (0, 1, 10, 3000, 300000, 5):
                    try:
                        assert budget.run(function, size) == size
                        done += 1
                    except OutOfBudget:
                        stopped += 1
                    # Nothing may come out here.
                    total = sum(range(50))
                    assert total == 1225
            except OutOfBudget:  # pragma: no cover - what this test is for
                pytest.fail("the exception came out of something else than the call")
    finally:
        budget.stop()
    assert stopped >= 50
    assert done >= 1000
    assert not budgets._call.running


def test_other_code_is_not_interrupted(budget: Budget) -> None:
    """Code that is not made for hooks runs to its end, and the call ends right after it."""
    reached = []

    def log() -> None:
        # Like a logger of Twisted's that a hook calls.
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            # To read that clock is the kernel's work, which the budget does not count.
            sum(range(10_000))
        reached.append("end")

    function = hook("def f(log):\n log()\n check()\n return 1")
    with pytest.raises(OutOfBudget):
        budget.run(function, log)
    assert reached == ["end"]


def test_handler_of_another_signal_is_not_interrupted(budget: Budget) -> None:
    """The handler of another signal that interrupts a hook runs to its end."""
    reached = []

    def handler(signum: int, frame: object) -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            pass
        reached.append(signum)

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        function = hook("def f(send):\n send()\n while True: pass")
        with pytest.raises(OutOfBudget):
            budget.run(function, lambda: signal.raise_signal(signal.SIGUSR1))
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert reached == [signal.SIGUSR1]


def test_timer_runs_while_in_use_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first start starts the timer and the last stop stops it; it ticks for the smallest
    budget."""
    # Hooks of an earlier test in this process may still be in use.
    monkeypatch.setattr(budgets, "_in_use", [])
    budgets._set_timer()
    one, two = Budget(0.5), Budget(0.05)
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == 0
    one.start()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == pytest.approx(0.1, abs=0.01)
    two.start()
    two.start()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == pytest.approx(0.01, abs=0.004)
    two.stop()
    one.stop()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == pytest.approx(0.01, abs=0.004)
    two.stop()
    two.stop()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == 0


def test_wakeup_descriptor_stays() -> None:
    """The wakeup descriptor that Twisted has set stays."""
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    made = Budget(0.05)
    made.start()
    made.stop()
    after = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(after)
    assert after == before


def test_call_that_returns_too_late_has_failed(budget: Budget) -> None:
    """No tick can stop a function written in C, so the call is measured when it ends."""
    function = hook("def f(list): list.sort()")
    plenty = [str(number * 7919 % 1000003) for number in range(1_200_000)]
    for run in (budget.run, budget.run_with):
        with pytest.raises(OutOfBudget):
            run(function, plenty.copy())


def test_error_that_comes_too_late_is_one_of_the_budget(budget: Budget) -> None:
    """The error tells where the time was used, and keeps nothing else alive."""
    function = hook("def f(list):\n list.sort()\n 1 / 0")
    with pytest.raises(OutOfBudget) as caught:
        budget.run(function, [str(number * 7919 % 1000003) for number in range(1_200_000)])
    assert caught.value.__cause__ is None
    assert "f" in [entry.name for entry in caught.traceback]


def test_time_of_the_wall_is_free(budget: Budget) -> None:
    """Other processes may use the CPU during a call."""
    # Nothing is ever written to the one end.
    one, other = socket.socketpair()
    with one, other:
        function = hook("def f(wait): wait()")
        for run in (budget.run, budget.run_with):
            run(function, lambda: select.select([one], [], [], 0.15))


def test_time_before_a_call_is_not_its_own(budget: Budget) -> None:
    """CPU time before the call never counts, whenever the clock was read last."""
    function = hook("def f(): pass")
    for busy in (0.0005, 0.08):
        budget.run(function)
        end = time.thread_time() + busy
        while time.thread_time() < end:
            pass
        budget.run(function)


def test_needs_the_main_thread() -> None:
    """In another thread no handler would run, and the error says so."""
    errors: list[str] = []

    def make() -> None:
        try:
            Budget(0.05)
        except ConfigError as error:
            errors.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert errors == ["hooks: Python hooks need the main thread, expected none in this one"]


@pytest.mark.parametrize("seconds", [0, -1, 3600, float("nan")])
def test_wrong_budget_is_refused(seconds: float) -> None:
    """A budget must be more than 0, and less than an hour."""
    with pytest.raises(ConfigError, match=r"hooks\.budget: expected"):
        Budget(seconds)


def test_memory_is_counted_anew_in_each_call(budget: Budget) -> None:
    """A charge past the limit ends the call, and the next call begins at 0."""
    half = budgets.MAX_MEMORY // 2 + 1
    budget.run(charge, half)
    budget.run(charge, half)
    with pytest.raises(OutOfMemory):
        budget.run(lambda: (charge(half), charge(half)))
    budget.run(charge, half)


@pytest.mark.real
def test_process_ends_while_the_timer_ticks() -> None:
    """A tick after Python has removed its handlers must not end the process by a signal."""
    code = (
        "from slardar.hooks.budget import Budget\n"
        "b = Budget(0.001); b.start()\n"
        "class Late:\n"
        "  def __del__(self): sum(range(3000000))\n"
        "late = Late()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert done.returncode == 0


@pytest.mark.real
def test_process_ends_in_order_with_hooks_in_use() -> None:
    """Python lets go of hooks after it has removed its handlers of signals: each that goes sets
    the timer for those that are left."""
    program = """
import time
from slardar.hooks.budget import Budget

class Hook:
    def __init__(self):
        self.budget = Budget(0.005)
        self.budget.start()
        self.budget.start()

    def __del__(self, clock=time.process_time):
        self.budget.stop()
        ends = clock() + 0.05
        while clock() < ends:
            pass

hook = Hook()
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0


def test_call_is_cheap() -> None:
    """A call costs far less than 1 us more than a plain call; the bound is for a busy machine."""
    budget = Budget(0.05)
    function = hook("def f(): pass")
    run = budget.run
    best = 1.0
    for _ in range(20):
        began = time.perf_counter()
        for _ in range(2000):
            run(function)
        best = min(best, (time.perf_counter() - began) / 2000)
    assert best < 2e-6
