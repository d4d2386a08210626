"""What Lua asks of the request that a script is called for, and does to it.

One object serves one runtime; what it knows of the call under way is in a
:class:`slardar.hooks.lua.script.Call`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_from_bytes

from slardar.hooks.engine import Log
from slardar.hooks.errno import make_errno
from slardar.hooks.lua.codec import FUNCTIONS
from slardar.hooks.lua.complaints import Complaints
from slardar.hooks.lua.crossing import bytes_of, crossing, said
from slardar.hooks.lua.outcome import Outcome
from slardar.hooks.lua.regex import find_match, group_names
from slardar.hooks.lua.script import Call
from slardar.hooks.lua.variables import PREFIXES, VARIABLES
from slardar.hooks.objects import Answer, HookRequest, HookResponse

__all__ = ["Api"]

#: Bytes of an answer's body, of all that is said together.
_MAX_BODY: Final = 1 << 20
#: Lines that one call may log, and characters of each.
_MAX_LINES: Final = 100
_MAX_LINE: Final = 4096
#: Variables of its own that a script may set, and characters of each.
_MAX_VARIABLES: Final = 50
_MAX_VALUE: Final = 8192

#: In a path, beside letters and digits, as nginx writes one anew.
_IN_PATH: Final = "/:@!$&'()*+,;=-._~"
_IN_ARGS: Final = "%/:@!$&'()*+,;=-._~?[]|\"<>\\^`{}"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_OWN_VARIABLE: Final = re.compile(r"x_[a-z0-9_]{1,60}")
#: Of a reply, what the proxy writes itself, is ignored: scripts for nginx set it.
_IGNORED: Final = frozenset(("content-length", "connection", "transfer-encoding", "keep-alive"))

#: ngx's levels from STDERR to DEBUG.
_LEVELS: Final = ("error", "error", "error", "error", "error", "warn", "info", "info", "debug")


class Api:
    """The functions that Lua has of Python, by :meth:`functions`."""

    def __init__(self, call: Call, settings: Mapping[str, Any], log: Log) -> None:
        self.settings = settings
        self._log = log
        self._call = call
        self._complaints = Complaints()

    @property
    def _request(self) -> HookRequest:
        return self._call.request

    @property
    def _outcome(self) -> Outcome:
        """What the call has come to so far."""
        outcome = self._call.outcome
        if outcome is None:
            outcome = self._call.outcome = Outcome()
        return outcome

    # What it asks for.

    @crossing
    def set_method(self, name: str) -> None:
        self._request.method = name

    def header_lines(self) -> str:
        lines = [f"{name}:{value}\n" for name, value in self._request.headers.items()]
        return "".join(lines)

    def set_header(self, name: str, *values: str) -> str | None:
        # The most frequent of all, so without a decorator.
        headers = self._request.headers
        try:
            if len(values) == 1:
                headers.set(name, values[0])
            elif values:
                headers.set(name, list(values))
            else:
                headers.remove(name)
        except ValueError as error:
            return said(error)
        return None

    @crossing
    def set_headers(self, name: str, value: str, more: str | None = None) -> None:
        self._request.headers.put(name, value)
        if more is not None:
            self._request.headers.put_each(more)

    @crossing
    def clear_header(self, name: str) -> None:
        self._request.headers.remove(name)

    def args(self) -> str:
        return self._request.query_string

    @crossing
    def set_args(self, text: str) -> None:
        if _CONTROLS.search(text):
            raise ValueError("set_uri_args: expected a query without control characters")
        made = quote_from_bytes(bytes_of(text), _IN_ARGS)
        self._request.uri = self._request.path + ("?" + made if made else "")

    @crossing
    def set_uri(self, path: str) -> None:
        if not path:
            raise ValueError("attempt to use zero-length uri")
        if path[0] != "/" or _CONTROLS.search(path):
            raise ValueError(
                "set_uri: expected a path that begins with /, without control characters"
            )
        args = self._request.query_string
        made = quote_from_bytes(bytes_of(path), _IN_PATH)
        self._request.uri = made + ("?" + args if args else "")

    def http_version(self) -> float:
        return 1 + self._request.minor / 10

    def start_time(self) -> float:
        return time.time()

    def raw_header(self, without_line: bool) -> str:
        request = self._request
        line = "" if without_line else f"{request.method} {request.uri} HTTP/1.{request.minor}\r\n"
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        return f"{line}{fields}\r\n"

    def variable(self, name: str) -> str | None:
        read = VARIABLES.get(name)
        if read is not None:
            return read(self._request)
        name = name.lower()
        for prefix, find in PREFIXES.items():
            if name.startswith(prefix):
                try:
                    return find(self._request, name[len(prefix) :])
                except ValueError:
                    return None
        if name.startswith("sent_http_"):
            return ", ".join(self.reply_header(name[10:].replace("_", "-")) or ()) or None
        outcome = self._outcome
        if name in outcome.own:
            return outcome.own[name]
        if name == "status":
            return str(outcome.status).zfill(3)
        return "-" if name == "x_error_code" else None

    @crossing
    def set_variable(self, name: str, value: str | None) -> str | None:
        if name in ("args", "query_string"):
            return self.set_args(value or "")
        if name in ("upstream", "hash_key", "cluster_key"):
            setattr(self._request, name, value)
        elif _OWN_VARIABLE.fullmatch(name):
            own = self._outcome.own
            if len(own) >= _MAX_VARIABLES or len(value or "") > _MAX_VALUE:
                raise ValueError("expected fewer or shorter variables")
            if value is None:
                own.pop(name, None)
            else:
                own[name] = value
        elif name in VARIABLES or name.startswith(("arg_", "cookie_", "http_", "sent_http_")):
            raise ValueError(f'variable "{name[:60]}" not changeable')
        else:
            raise ValueError(
                f'variable "{name[:60]}" not found for writing; a script may set args, upstream,'
                " hash_key, cluster_key, and variables of its own whose names begin with x_"
            )
        return None

    @crossing
    def choose(self, name: str, *values: str) -> None:
        value: Any = None
        if values:
            value = values[0] if len(values) == 1 else list(values)
        setattr(self._request, name, value)

    # Answering.

    def status(self) -> int:
        return self._outcome.status

    def sent(self) -> bool:
        return self._outcome.said is not None

    @crossing
    def set_status(self, status: float) -> None:
        if not 100 <= status <= 599 or status != int(status):
            raise ValueError(f"status: expected one from 100 to 599, got {status!r}")
        outcome = self._outcome
        if outcome.said is None:
            outcome.status = int(status)

    def reply_header(self, name: str) -> tuple[str, ...] | None:
        reply = self._outcome.reply
        if reply is None:
            return None
        try:
            return tuple(reply.get_all(name)) or None
        except ValueError:
            return None

    @crossing
    def set_reply_header(self, name: str, *values: str) -> None:
        outcome = self._outcome
        if outcome.said is not None or name.lower() in _IGNORED:
            return
        reply = outcome.reply
        if reply is None:
            reply = outcome.reply = HookResponse(200, [b""], None).headers
        if values:
            reply.set(name, values[0] if len(values) == 1 else list(values))
        else:
            reply.remove(name)

    @crossing
    def say(self, text: str) -> None:
        outcome = self._outcome
        if outcome.said is None:
            if outcome.status and outcome.status < 200:
                raise ValueError(f"status: {outcome.status} cannot be answered")
            outcome.said = []
        data = bytes_of(text)
        outcome.size += len(data)
        if outcome.size > _MAX_BODY:
            raise ValueError(f"expected an answer of at most {_MAX_BODY} bytes")
        outcome.said.append(data)

    @crossing
    def exit(self, status: float) -> None:
        if status in (0, -5):
            # The request goes on, unless there is an answer already.
            return
        if status == -1:
            status = 444
        if status != int(status) or not 200 <= status <= 599:
            raise ValueError(f"exit: expected ngx.OK or a status from 200 to 599, got {status!r}")
        outcome = self._outcome
        outcome.ended = True
        if outcome.said is not None and status != 444:
            return
        if status == 444:
            outcome.said, outcome.reply = None, None
            outcome.answer = Answer(444)
        elif status >= 300 or not outcome.status:
            outcome.status = int(status)

    @crossing
    def redirect(self, url: str, status: float) -> None:
        outcome = self._outcome
        if outcome.said is not None:
            raise ValueError("attempt to redirect after sending out the headers")
        made = HookRequest(b"GET", b"/", [b""])
        if status != int(status):
            raise ValueError(f"redirect: expected a status, got {status!r}")
        if _CONTROLS.search(url):
            raise ValueError("redirect: expected a URL without control characters")
        # Characters beyond ASCII are bytes here, and must not be encoded twice.
        made.redirect(quote_from_bytes(bytes_of(url), _IN_ARGS + "#"), int(status))
        outcome.answer = made.answer
        outcome.ended = True

    @crossing
    def exit_with(self, code: float, message: str) -> None:
        if code != int(code):
            raise ValueError(f"slardar.exit: expected an integer as code, got {code!r}")
        errno = make_errno(int(code), bytes_of(message).decode("utf-8", "replace"))
        outcome = self._outcome
        if errno.code == 0 or outcome.said is not None:
            return
        made = HookRequest(b"GET", b"/", [b""])
        made.exit(errno)
        outcome.answer = made.answer
        outcome.ended = True

    # The rest.

    def module(self, name: str) -> str | None:
        code = self._call.owner.modules.get(name)
        return None if code is None else code.encode("utf-8", "replace").decode("latin-1")

    def setting(self, name: str) -> str | None:
        value = self.settings.get(bytes_of(name).decode("utf-8", "replace"))
        if value is None:
            return None
        try:
            text = json.dumps(_plain(value))
        except (TypeError, ValueError):
            return None
        return text if len(text) <= _MAX_BODY else None

    def log(self, level: float, text: str) -> None:
        outcome = self._outcome
        outcome.lines += 1
        if outcome.lines > _MAX_LINES:
            return
        line = bytes_of(text).decode("utf-8", "replace")
        line = "".join(one if one.isprintable() else " " for one in line[:_MAX_LINE])
        self._log(_LEVELS[int(level)], f"{self._call.owner.name}: {line}")

    def regex(self, subject: str, pattern: str, options: str, start: float) -> Any:
        """One match; that an expression cannot be used is logged.  To the script it is
        ``nil`` and a message, as in nginx, which looks like "does not match" to one that
        does not ask for the message."""
        found = find_match(subject, pattern, options, start)
        if type(found) is tuple and found[0] is None:
            self._complaints.complain(self._call.owner.name, pattern, found[1], self._log)
        return found

    def functions(self) -> dict[str, Any]:
        """By the names that the Lua files know them by."""
        own = (
            "args", "choose", "clear_header", "exit", "exit_with", "header_lines",
            "http_version", "log",
            "module", "raw_header", "redirect", "reply_header", "say", "sent",
            "set_args", "set_header", "set_headers", "set_method", "set_reply_header", "set_status",
            "set_uri", "set_variable", "setting", "start_time", "status", "variable",
        )  # fmt: skip
        return {
            **FUNCTIONS,
            **{name: getattr(self, name) for name in own},
            "clock": time.thread_time,
            "regex": self.regex,
            "regex_names": group_names,
            "seed": lambda: time.time_ns() % 2**31,
        }


def _plain(value: Any) -> Any:
    """A setting without the read-only wrappers that it may be kept in."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
