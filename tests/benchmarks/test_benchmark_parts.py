"""The small parts: /proc, templates, the order of a round, the sums of a profile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.folder import CONFIGS, fill_text
from benchmarks.processes import Cores, Program, free_port
from benchmarks.procfs import Cpu, Times, cpu_of, parse_stat, process_tree, resident
from benchmarks.profiling import shares
from benchmarks.proxies import PROXIES
from benchmarks.rounds import order


def test_stat_of_a_process_with_an_odd_name() -> None:
    """A name with spaces and parentheses moves no field."""
    line = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 0 0 0 150 25 0 0 20 0 1"
    assert parse_stat(line) == (7, 150, 25)


def test_this_process_has_cpu_time_and_memory() -> None:
    """Both clocks run, and a difference of two readings is not negative."""
    pids = [os.getpid()]
    before = cpu_of(pids)
    used = cpu_of(pids) - before
    assert before.run > 0
    assert used.run >= 0
    assert used.ticks >= 0
    assert resident(pids) > 1


@pytest.mark.real
def test_process_that_ends_counts_no_more() -> None:
    """Its time is not taken from the others' and a process that began meanwhile counts whole."""
    own = os.getpid()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        before = cpu_of([own, child.pid])
        child.communicate(b"\n")
    used = cpu_of([own, child.pid]) - before
    assert set(before.parts) == {own, child.pid}
    assert set(used.parts) == {own}
    assert used.run >= 0
    both = Cpu({1: Times(5.0, 4.0, 1.0), 2: Times(2.0, 1.0, 0.5)}) - Cpu({1: Times(3.0, 3.0, 0.5)})
    assert (both.run, both.user, both.system, both.ticks) == (4.0, 2.0, 1.0, 3.0)


def test_tree_begins_with_its_root() -> None:
    """A process belongs to its own tree."""
    assert process_tree(os.getpid())[0] == os.getpid()


def test_proxy_gets_a_core_for_itself() -> None:
    """This holds with two cores or more; a single core serves both."""
    assert Cores([0, 1, 2]).proxy == 2
    assert Cores([0, 1, 2]).load == {0, 1}
    assert Cores([5]).load == {5}


@pytest.mark.real
def test_stopped_program_leaves_no_child(tmp_path: Path) -> None:
    """A worker that its parent forgot ends, too: it is in the program's group."""
    script = "import os, time; os.fork(); time.sleep(60)"
    program = Program("forking", [sys.executable, "-c", script], Cores().load, tmp_path)
    deadline = time.monotonic() + 10
    while len(program.pids()) < 2 and time.monotonic() < deadline:
        program.pause(0.02)
    pids = program.pids()
    assert len(pids) == 2
    program.stop()
    assert not program.alive()
    # The orphan is dead; the system may take a moment to remove it.
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        threading.Event().wait(0.02)
    assert not any(is_running(pid) for pid in pids)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.real
def test_program_that_ends_early_says_why(tmp_path: Path) -> None:
    """The error has its output, for example about its configuration."""
    command = [sys.executable, "-c", "import sys; sys.exit('no such option')"]
    program = Program("broken", command, Cores().load, tmp_path)
    try:
        with pytest.raises(RuntimeError, match="broken ended with 1: no such option"):
            program.wait_for_port(free_port())
    finally:
        program.stop()


def test_order_turns_and_leaves_nobody_out() -> None:
    """Each proxy is first in some round."""
    names = ["a", "b", "c"]
    turns = [order(names, turn) for turn in range(3)]
    assert [turn[0] for turn in turns] == names
    assert all(sorted(turn) == names for turn in turns)
    assert order([], 3) == []


def test_template_leaves_dollars_alone() -> None:
    """nginx's own variables are not filled in."""
    assert fill_text("listen @{port}; $host", {"port": 80}) == "listen 80; $host"
    with pytest.raises(KeyError):
        fill_text("@{misspelt}", {})


def test_every_template_of_every_proxy_can_be_filled() -> None:
    """No template names a value that the start of a proxy does not give."""
    names = ("folder", "user", "port", "control", "tls_port", "pair", "backend_a", "backend_b")
    values = dict.fromkeys(names, "x")
    for proxy in PROXIES.values():
        texts = [*proxy.command, *proxy.environment.values()]
        texts += [(CONFIGS / name).read_text() for name in proxy.configs]
        own = {key: fill_text(text, values) for key, text in proxy.values.items()}
        for text in texts:
            assert "@{" not in fill_text(text, {**values, **own})


def test_shares_count_own_and_called_time() -> None:
    """A recursive function counts once a sample in its total."""
    stacks = ["main;walk;walk 3", "main;walk;read (a.py:1) 2", "main;walk;read (a.py:9) 4"]
    own, total = shares(stacks, by_line=True)
    assert own == {"walk": 3, "read (a.py:1)": 2, "read (a.py:9)": 4}
    assert total == {"main": 9, "walk": 9, "read (a.py:1)": 2, "read (a.py:9)": 4}


def test_shares_by_function_join_its_lines() -> None:
    """By function, all lines of a function are one row."""
    own, _ = shares(["main;read (a.py:1) 2", "main;read (a.py:9) 4", " 1"], by_line=False)
    assert own == {"read (a.py)": 6, "outside Python": 1}
