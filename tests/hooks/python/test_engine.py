"""Loading and calling Python hooks: what works, what is refused, how failures look."""

from __future__ import annotations

import gc
import signal
import threading
import weakref

import pytest

from slardar.errors import ConfigError
from slardar.hooks.engine import MAX_CODE, ScriptError
from slardar.hooks.python.compiling import compiled
from slardar.hooks.python.engine import PythonEngine
from slardar.hooks.script import HookFailure
from tests.hooks.python.loading import SETTINGS, Hooks, request, response

CONTRACT = """
def on_request(request):
    if request.method == "DELETE":
        return request.reject(403)
    request.headers["X-Tenant"] = request.host.split(".")[0]

def on_response(request, response):
    response.headers.remove("Server")
"""


def test_the_contracts_example_works(hooks: Hooks) -> None:
    """The hook changes a request, refuses another, and changes a reply."""
    script = hooks.load(CONTRACT)
    assert script.on_requests
    assert script.on_replies
    asked = request()
    script.on_request(asked)
    assert asked.headers["X-Tenant"] == "www"
    assert asked.answer is None
    refused = request("DELETE")
    script.on_request(refused)
    assert refused.answer is not None
    assert refused.answer.status == 403
    reply = response()
    script.on_response(asked, reply)
    assert reply.headers.keys() == ["content-type"]


def test_one_entry_point_is_enough(hooks: Hooks) -> None:
    """A call for an entry point that the hook does not have does nothing."""
    script = hooks.load("def on_response(request, response): response.status = 201")
    assert (script.on_requests, script.on_replies) == (False, True)
    script.on_request(request())
    script = hooks.load("def on_request(request, more=1): request.host = 'a'")
    assert (script.on_requests, script.on_replies) == (True, False)
    script.on_response(request(), response())


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1", "line 1: expected a function on_request(request), or on_response"),
        ("\ndef on_request(): pass", "line 2: expected on_request to be a function of request"),
        ("def on_request(a, b): pass", "expected on_request to be a function of request"),
        ("def on_request(a, *, b): pass", "expected on_request to be a function of request"),
        ("on_request = 5", "expected on_request to be a function of request"),
        ("on_request = len", "expected on_request to be a function of request"),
        ("def on_response(a): pass", "expected on_response to be a function of request and"),
        ("1 / 0", "script.x: line 1: ZeroDivisionError: division by zero"),
        ("while True: pass", "script.x: line 1: expected an end within 50 ms of CPU time"),
        ("\n\nrequire('modules.y')", "script.x: line 3: module modules.y is not active"),
        ("require('os')", "script.x: line 1: module os is not active"),
    ],
)
def test_what_cannot_be_loaded_is_refused(hooks: Hooks, code: str, message: str) -> None:
    """The error is one line, which begins with the place."""
    with pytest.raises(ScriptError) as caught:
        hooks.load(code)
    assert str(caught.value).startswith("script.x: line ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    # Nothing of it is left that would need the timer.
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == 0


def test_check_names_modules_and_runs_nothing(hooks: Hooks) -> None:
    """Even code that fails at once, or that never ends, can be checked."""
    code = "a = require('modules.a')\ndef on_request(r): require('modules.b')\nwhile True: 1 / 0"
    assert hooks.engine.check("script.x", code) == {"modules.a", "modules.b"}
    assert hooks.engine.check("modules.x", "x = 1") == frozenset()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(:", "script.x: line 1: expected Python: "),
        ("\n\n  x = 1", "script.x: line 3: expected Python: unexpected indent"),
        ("x = 1\n\0", "script.x: line 2: expected text, got the character U+0000"),
        ("x = '\ud800'", "script.x: line 1: expected text, got the character U+D800"),
        ("#" * (MAX_CODE + 1), "script.x: line 1: expected at most 262144 characters"),
        ("(" * 5000 + ")" * 5000, "script.x: line 1: expected"),
        ("-" * 5000 + "1", "script.x: line 1: expected"),
        ("not " * 50000 + "1", "script.x: line 1: expected"),
        ("x" + ".a" * 100000, "script.x: line 1: expected"),
        ("1" + "+1" * 100000, "script.x: line 1: expected"),
        ("x = " + "[" * 150 + "]" * 150, "script.x: line 1: expected code of at most 120"),
        ("if 1:\n pass\n" + "elif 1:\n pass\n" * 5000, "expected"),
        ("lambda: " * 20000 + "1", "script.x: line 1: expected"),
        ("x;" * 60000, "script.x: line 1: expected less code"),
        ("x = " + "9" * 5000, "script.x: line 1: expected"),
        ("x = 1" + "0" * 1300, "script.x: line 1: expected an integer of at most 4096 bits"),
        ("f'" + "{x!r:" * 200 + "}" * 200 + "'", "script.x: line 1: expected"),
        ("# coding: utf-7\n+AF8-", "script.x: line 2: "),
    ],
)
def test_what_cannot_be_compiled_is_refused(hooks: Hooks, code: str, message: str) -> None:
    """Checking raises nothing but ScriptError, whatever the text is."""
    with pytest.raises(ScriptError) as caught:
        hooks.engine.check("script.x", code)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ScriptError):
        hooks.load(code)


def test_warnings_of_the_compiler_are_no_refusal(hooks: Hooks) -> None:
    """An unknown escape works as it does in Python."""
    assert hooks.value(r"'\d'") == r"\d"


def test_failure_names_the_line_and_the_error(hooks: Hooks) -> None:
    """The failure is one line, and keeps nothing of the hook alive."""
    script = hooks.load("def f(x):\n  return 1 / x\n\ndef on_request(request):\n  f(0)\n")
    with pytest.raises(HookFailure) as caught:
        script.on_request(request())
    assert caught.value.kind == "error"
    assert caught.value.message == "script.x: line 2: ZeroDivisionError: division by zero"
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    # It is usable afterwards.
    with pytest.raises(HookFailure):
        script.on_request(request())


def test_failure_in_a_module_names_both_places(hooks: Hooks) -> None:
    """The failure names the script's line with the call, and the module's line that failed."""
    script = hooks.load(
        "u = require('modules.u')\ndef on_request(request):\n  u.f(request)\n",
        modules={"modules.u": "\n\ndef f(r):\n  raise KeyError('a')\n"},
    )
    with pytest.raises(HookFailure) as caught:
        script.on_request(request())
    assert caught.value.message == "script.x: line 3: modules.u: line 4: KeyError: a"


@pytest.mark.parametrize(
    ("raised", "shown"),
    [
        ("ValueError", "ValueError"),
        ("ValueError('a\\nb\\r\\x00')", "ValueError: a\\nb\\r\\x00"),
        ("ValueError('x' * 10000)", "ValueError: " + "x" * 297 + "..."),
        ("ValueError(1, 'b')", "ValueError: 1, b"),
        ("ValueError([[1]])", "ValueError: [[1]]"),
        ("ValueError(request)", "ValueError: <HookRequest GET /a/b?x=1&y=2>"),
        ("ValueError(lambda: 1)", "ValueError: <function>"),
        ("5", "TypeError: exceptions must derive from BaseException"),
    ],
)
def test_message_of_a_failure_is_one_short_line(hooks: Hooks, raised: str, shown: str) -> None:
    """The message is one short line, whatever the hook raised the error with."""
    script = hooks.load(f"def on_request(request): raise {raised}")
    with pytest.raises(HookFailure) as caught:
        script.on_request(request())
    assert caught.value.message == f"script.x: line 1: {shown}"


def test_endless_call_fails_by_its_budget(hooks: Hooks) -> None:
    """The kind of the failure tells of the budget, and the next call has a new budget."""
    script = hooks.load(
        "def on_request(request):\n  while request.method == 'GET':\n    pass\n"
        "  request.host = 'done'"
    )
    with pytest.raises(HookFailure) as caught:
        script.on_request(request())
    assert caught.value.kind == "budget"
    assert caught.value.message.endswith("expected an end within 50 ms of CPU time")
    asked = request("POST")
    script.on_request(asked)
    assert asked.host == "done"


def test_too_much_memory_is_a_failure_of_its_own(hooks: Hooks) -> None:
    """Large values count when they are made, not only while they are kept."""
    script = hooks.load("def on_request(request):\n  for n in range(100): x = 'a' * 1000000")
    with pytest.raises(HookFailure) as caught:
        script.on_request(request())
    assert caught.value.kind == "memory"


def test_deep_recursion_is_a_failure(hooks: Hooks) -> None:
    """A recursion that is too deep fails the call, and does no other harm."""
    script = hooks.load("def f(): return f()\ndef on_request(request): f()")
    with pytest.raises(HookFailure, match="RecursionError"):
        script.on_request(request())


def test_modules_are_loaded_with_those_that_they_require(hooks: Hooks) -> None:
    """A module is loaded once for each script, however many name it."""
    modules = {
        "modules.a": "b = require('modules.b')\nn = b.n + 1",
        "modules.b": "c = require('modules.c')\nn = c.n + 1\nlog.info('b')",
        "modules.c": "n = 1",
        "modules.other": "1 / 0",
    }
    script = hooks.load(
        "a = require('modules.a')\nb = require('modules.b')\n"
        "def on_request(request): request.context['out'] = [a.n, b.n, a.b == b]",
        modules=modules,
    )
    assert script.requires == {"modules.a", "modules.b", "modules.c"}
    asked = request()
    script.on_request(asked)
    assert asked.context["out"] == [3, 2, True]
    assert hooks.lines == [("info", "b")]


def test_modules_in_a_circle_are_refused(hooks: Hooks) -> None:
    """The error shows the circle."""
    modules = {"modules.a": "require('modules.b')", "modules.b": "\nrequire('modules.a')"}
    with pytest.raises(ScriptError) as caught:
        hooks.load("require('modules.a')", modules=modules)
    assert str(caught.value) == (
        "modules.b: line 2: expected modules that do not require each other in a circle:"
        " modules.a -> modules.b -> modules.a"
    )


def test_scripts_share_nothing_that_they_can_write(hooks: Hooks) -> None:
    """Each script has its own copy of a module and its values, which lasts between calls."""
    code = (
        "m = require('modules.m')\n"
        "def on_request(request):\n"
        "  m.seen.append(request.method)\n"
        "  request.context['out'] = m.count()\n"
    )
    module = {"modules.m": "seen = []\ndef count(): return len(seen)"}
    one, two = (hooks.load(code, f"script.{name}", module) for name in "ab")
    found = []
    for script in (one, one, two, one):
        asked = request()
        script.on_request(asked)
        found.append(asked.context["out"])
    assert found == [1, 2, 1, 3]


def test_module_can_be_loaded_alone(hooks: Hooks) -> None:
    """Loading a module alone tells whether it works."""
    assert not hooks.load("x = 1", "modules.x").on_requests
    with pytest.raises(ScriptError, match=r"modules\.x: line 1: ZeroDivisionError"):
        hooks.load("1 / 0", "modules.x")


def test_module_is_read_only(hooks: Hooks) -> None:
    """Neither the script nor another module can set the names of a module."""
    for line in ("m.n = 2", "m.n += 1"):
        with pytest.raises(HookFailure, match="cannot be set"):
            hooks.result(f"m = require('modules.m')\n{line}", m="n = 1")
    for name in ("require", "missing", "builtins"):
        with pytest.raises(HookFailure, match=f"modules.m has no {name} in hooks"):
            hooks.result(f"require('modules.m').{name}", m="n = require('modules.n').n", n="n = 1")


def test_log_writes_one_line(hooks: Hooks) -> None:
    """The line is cut at 1,000 characters, with escaped controls, and values become texts."""
    hooks.result(
        "log.info('a\\nb', 1, None)\nlog.warn('x' * 2000)\nlog.error([1, '2'])\nlog.debug()"
    )
    assert hooks.lines == [
        ("info", "a\\nb 1 None"),
        ("warn", "x" * 997 + "..."),
        ("error", "[1, '2']"),
        ("debug", ""),
    ]


def test_settings_are_read_by_attribute_and_by_item(hooks: Hooks) -> None:
    """Hooks read settings on all levels, and can change none."""
    assert hooks.value("settings.myargs.arg0") == "zero"
    assert hooks.value("settings['myargs']['arg0']") == "zero"
    assert hooks.value("settings.get('no', 7)") == 7
    assert hooks.value("[settings.number, settings.on, 'no' in settings]") == [5, True, False]
    assert hooks.value("settings.myargs.list[1].deep") == 2
    assert hooks.value("[key for key in settings]") == list(SETTINGS)
    assert hooks.value("sorted(settings.myargs.keys())") == ["arg0", "list"]
    for line in ("settings.number = 1", "settings['number'] = 1", "del settings['number']",
                 "settings.myargs.list.append(1)", "settings.myargs['x'] = 1"):  # fmt: skip
        with pytest.raises(HookFailure):
            hooks.result(line)
    with pytest.raises(HookFailure, match=r"there is no settings\.myargs\.no"):
        hooks.result("settings.myargs.no")
    assert SETTINGS["number"] == 5


def test_errno_has_names_and_makes_others(hooks: Hooks) -> None:
    """A hook exits with an error of errno, or with one that it makes."""
    script = hooks.load("def on_request(request): request.exit(errno.HTTP_FORBIDDEN)")
    asked = request()
    script.on_request(asked)
    assert asked.answer is not None
    assert (asked.answer.status, asked.answer.code) == (403, 403)
    assert hooks.value("errno.make(40301001, 'no').httpcode") == 403
    with pytest.raises(HookFailure, match="expected an error code"):
        hooks.value("errno.make(99, 'no')")
    assert hooks.value("errno.from_code(404) == errno.HTTP_NOT_FOUND")
    assert not hooks.lines


@pytest.mark.parametrize(
    ("code", "shown"),
    [("errno.NOPE", "NOPE"), ("errno.from_code(7)", "7"), ("errno.from_code('x\\ny')", "x\\ny"),
     ("errno.from_code(None)", "None"), ("errno.from_code([1])", "a list"),
     ("errno.from_code(1 << 1000)", "int"), ("errno.from_code('x' * 5000)", "x" * 60)],
)  # fmt: skip
def test_unknown_errno(hooks: Hooks, code: str, shown: str) -> None:
    """An unknown name or code is UNKNOWN_ERR, and the log gets a line."""
    assert hooks.value(f"{code} == errno.UNKNOWN_ERR")
    [(level, line)] = hooks.lines
    assert level == "error"
    assert line.startswith("unknown error: ")


def test_timer_runs_while_a_script_is_loaded(hooks: Hooks) -> None:
    """The timer rests once the script is closed; a second close does nothing."""
    script = hooks.load(CONTRACT)
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] > 0
    script.close()
    script.close()
    assert signal.getitimer(signal.ITIMER_VIRTUAL)[1] == 0
    # Whoever calls it in spite of that gets nothing done.
    script.on_request(request("DELETE"))


def test_closed_script_is_freed(hooks: Hooks) -> None:
    """Nothing keeps a closed script alive, even after failures."""
    script = hooks.engine.load("script.x", "def on_request(r): r.no", {})
    with pytest.raises(HookFailure):
        script.on_request(request())
    # Of a compiled class, so that only what it holds can be watched.
    gone = weakref.ref(script._request)
    script.close()
    gc.collect()
    assert gone() is None


def test_engine_needs_the_main_thread() -> None:
    """In another thread no handler of a signal runs, so no budget would hold."""
    errors: list[str] = []

    def make() -> None:
        try:
            PythonEngine(0.05, {}, lambda level, line: None)
        except ConfigError as error:
            errors.append(str(error))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_every_mistake_is_told() -> None:
    """The error names each mistake once, in the order of the lines."""
    code = "import os\nprint(1)\n\n\ndef on_request(request):\n    _x = 1\n    import sys\n"
    with pytest.raises(ScriptError) as caught:
        compiled("script.a", code)
    lines = [line.partition(": ")[2].partition(":")[0] for line in caught.value.problems]
    assert lines == ["line 1", "line 2", "line 6", "line 7"]
