"""What Lua asks of the request that a script is called for, and does to it.

One object serves one runtime.  It holds the request only while a script runs, and what
the script has said of an answer until the call has ended.
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
from slardar.hooks.headers import Headers
from slardar.hooks.lua.codec import FUNCTIONS
from slardar.hooks.lua.crossing import bytes_of, crossing, said
from slardar.hooks.lua.regex import find_match, group_names
from slardar.hooks.lua.variables import PREFIXES, VARIABLES
from slardar.hooks.objects import Answer, HookRequest, HookResponse

__all__ = ["ADDED", "Api", "by_name"]

#: Where a request's context has the headers for the server's reply.
ADDED: Final = "lua.reply_headers"

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

_NOBODY: Final = HookRequest("GET", "/", [], {})


class Api:
    """The functions that Lua has of Python, by :meth:`functions`."""

    def __init__(self, settings: Mapping[str, Any], log: Log) -> None:
        self.settings = settings
        self._log = log
        #: The modules in service, for the script that runs or is loaded.
        self.modules: Mapping[str, str] = {}
        self._name = ""
        self._request = _NOBODY
        self._status = 0
        self._said: list[bytes] | None = None
        self._size = 0
        self._reply: Headers | None = None
        self._ended = False
        self._lines = 0
        self._own: dict[str, str] | None = None
        self._answer: Answer | None = None

    # A call begins and ends.

    def begin(self, name: str, modules: Mapping[str, str], request: HookRequest) -> None:
        """A script runs for this request from now on."""
        self._name = name
        self.modules = modules
        self._request = request
        self._status = 0
        self._said = None
        self._reply = None
        self._ended = False
        self._lines = 0
        self._own = None

    def abandon(self) -> None:
        """It failed: nothing that it said counts."""
        self._request = _NOBODY
        self._own = self._said = self._reply = None

    def end(self, pending: str | None) -> None:
        """It has ended: the headers that waited for that are set, and its answer, if there
        is one, becomes the request's."""
        request = self._request
        if pending is not None:
            request.headers.set_each(pending)
        self._request = _NOBODY
        if not self._ended and self._said is None:
            if self._reply is not None:
                self._keep_for_reply(request, self._reply)
            return
        answer = self._made() if self._answer is None else self._answer
        self._answer = None
        if self._reply is not None:
            if answer.headers and answer.status // 100 == 3:
                self._reply.remove("location")
            answer.headers = self._reply.lines + answer.headers
        request.answer = answer

    def _made(self) -> Answer:
        """The answer of what was said, or of a status alone."""
        status = self._status or 200
        if self._said is None:
            # As nginx: from 300 on its own page, unless a header says where to go.
            if status >= 400:
                return Answer(status, "")
            return Answer(status)
        answer = Answer(status, None, b"" if status in (204, 304) else b"".join(self._said))
        if self._reply is None or self._reply.get("content-type") is None:
            answer.headers.append(b"Content-Type: text/plain")
        return answer

    @staticmethod
    def _keep_for_reply(request: HookRequest, headers: Headers) -> None:
        known = request.context.get(ADDED)
        # The context is everybody's, so anything may be there.
        if not isinstance(known, Headers):
            request.context[ADDED] = headers
            return
        for name, values in by_name(headers).items():
            known.set(name, values)

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
    def set_headers(self, pending: str) -> None:
        self._request.headers.set_each(pending)

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
        if self._own is not None and name in self._own:
            return self._own[name]
        if name == "status":
            return str(self._status or 0).zfill(3)
        return "-" if name == "x_error_code" else None

    @crossing
    def set_variable(self, name: str, value: str | None) -> str | None:
        if name in ("args", "query_string"):
            return self.set_args(value or "")
        if name in ("upstream", "hash_key", "cluster_key"):
            setattr(self._request, name, value)
        elif _OWN_VARIABLE.fullmatch(name):
            own = self._own
            if own is None:
                own = self._own = {}
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
        return self._status

    def sent(self) -> bool:
        return self._said is not None

    @crossing
    def set_status(self, status: float) -> None:
        if not 100 <= status <= 599 or status != int(status):
            raise ValueError(f"status: expected one from 100 to 599, got {status!r}")
        if self._said is None:
            self._status = int(status)

    def reply_header(self, name: str) -> tuple[str, ...] | None:
        if self._reply is None:
            return None
        try:
            return tuple(self._reply.get_all(name)) or None
        except ValueError:
            return None

    @crossing
    def set_reply_header(self, name: str, *values: str) -> None:
        if self._said is not None:
            return
        if name.lower() in _IGNORED:
            return
        if self._reply is None:
            self._reply = HookResponse(200, [], {}).headers
        if values:
            self._reply.set(name, values[0] if len(values) == 1 else list(values))
        else:
            self._reply.remove(name)

    @crossing
    def say(self, text: str) -> None:
        if self._said is None:
            if self._status and self._status < 200:
                raise ValueError(f"status: {self._status} cannot be answered")
            self._said, self._size = [], 0
        data = bytes_of(text)
        self._size += len(data)
        if self._size > _MAX_BODY:
            raise ValueError(f"expected an answer of at most {_MAX_BODY} bytes")
        self._said.append(data)

    @crossing
    def exit(self, status: float) -> None:
        if status in (0, -5):
            # The request goes on, unless there is an answer already.
            return
        if status == -1:
            status = 444
        if status != int(status) or not 200 <= status <= 599:
            raise ValueError(f"exit: expected ngx.OK or a status from 200 to 599, got {status!r}")
        self._ended = True
        if self._said is not None and status != 444:
            return
        if status == 444:
            self._said, self._reply = None, None
            self._answer = Answer(444)
        elif status >= 300 or not self._status:
            self._status = int(status)

    @crossing
    def redirect(self, url: str, status: float) -> None:
        if self._said is not None:
            raise ValueError("attempt to redirect after sending out the headers")
        made = HookRequest("GET", "/", [], {})
        if status != int(status):
            raise ValueError(f"redirect: expected a status, got {status!r}")
        if _CONTROLS.search(url):
            raise ValueError("redirect: expected a URL without control characters")
        # Characters beyond ASCII are bytes here, and must not be encoded twice.
        made.redirect(quote_from_bytes(bytes_of(url), _IN_ARGS + "#"), int(status))
        self._answer = made.answer
        self._ended = True

    @crossing
    def exit_with(self, code: float, message: str) -> None:
        if code != int(code):
            raise ValueError(f"slardar.exit: expected an integer as code, got {code!r}")
        errno = make_errno(int(code), bytes_of(message).decode("utf-8", "replace"))
        if errno.code == 0 or self._said is not None:
            return
        made = HookRequest("GET", "/", [], {})
        made.exit(errno)
        self._answer = made.answer
        self._ended = True

    # The rest.

    def module(self, name: str) -> str | None:
        code = self.modules.get(name)
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
        self._lines += 1
        if self._lines > _MAX_LINES:
            return
        line = bytes_of(text).decode("utf-8", "replace")
        line = "".join(one if one.isprintable() else " " for one in line[:_MAX_LINE])
        self._log(_LEVELS[int(level)], f"{self._name}: {line}")

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
            "regex": find_match,
            "regex_names": group_names,
            "seed": lambda: time.time_ns() % 2**31,
        }


def by_name(headers: Headers) -> dict[str, list[str]]:
    """The values of each header, by the names as they were written."""
    found: dict[str, list[str]] = {}
    for name, value in headers.items():
        found.setdefault(name, []).append(value)
    return found


def _plain(value: Any) -> Any:
    """A setting without the read-only wrappers that it may be kept in."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
