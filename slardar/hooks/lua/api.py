"""The functions of Python that Lua calls to read and change a script's request.

One :class:`Api` serves one runtime.  It finds the call under way in a
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
from slardar.hooks.lua.crossing import bytes_of, contained, crossing, said, text_of
from slardar.hooks.lua.literal import source_of
from slardar.hooks.lua.outcome import Outcome
from slardar.hooks.lua.regex import find_match, group_names
from slardar.hooks.lua.script import Call
from slardar.hooks.lua.variables import PREFIXES, VARIABLES
from slardar.hooks.objects import BODY_IS_UNKNOWN, HookAnswer, HookRequest, HookResponse
from slardar.hooks.settings import SettingEntry
from slardar.hooks.tls import as_values

__all__ = ["Api"]

#: The most bytes of an answer's body, which is all that a script says in one call.
_MAX_BODY: Final = 1 << 20
#: The most lines that one call may log, and characters of each.
_MAX_LINES: Final = 100
_MAX_LINE: Final = 4096
#: The most variables that a script may define itself, and characters of each.
_MAX_VARIABLES: Final = 50
_MAX_VALUE: Final = 65536
#: The most bytes of a path, a query or a URL that a script makes, since each character costs
#: time: four times the default of ``limits.url``.
_MAX_URL: Final = 32768

#: Characters of a path that are not escaped, besides letters and digits, as in nginx.
_IN_PATH: Final = "/:@!$&'()*+,;=-._~"
_IN_ARGS: Final = "%/:@!$&'()*+,;=-._~?[]|\"<>\\^`{}"
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]")
_OWN_VARIABLE: Final = re.compile(r"x_[a-z0-9_]{1,60}")
#: Headers of a reply that the proxy writes itself.  A script for nginx may set them, which
#: has no effect here.
_IGNORED: Final = frozenset(("content-length", "connection", "transfer-encoding", "keep-alive"))

#: Methods of requests that have a body, even if it is empty.
_WITH_BODY: Final = (b"POST", b"PUT", b"PATCH")
_QUERY: Final = frozenset(("args", "query_string"))
#: Functions that raise nothing, so :meth:`Api.functions` does not wrap them.
_SAFE: Final = frozenset(("clock", "set_header", "variable"))

#: slardar's level for each level of ngx, from STDERR to DEBUG.
_LEVELS: Final = ("error", "error", "error", "error", "error", "warn", "info", "info", "debug")


class Api:
    """The functions of Python that Lua calls; :meth:`functions` lists them."""

    def __init__(self, call: Call, settings: Mapping[str, SettingEntry], log: Log) -> None:
        self.settings = settings
        self._log = log
        self._call = call
        self._complaints = Complaints()

    @property
    def _request(self) -> HookRequest:
        return self._call.request

    @property
    def _outcome(self) -> Outcome:
        """What the call has led to so far; it is made when it is first needed."""
        outcome = self._call.outcome
        if outcome is None:
            outcome = self._call.outcome = Outcome()
        return outcome

    # What the request asks for.

    @crossing
    def set_method(self, name: str) -> None:
        self._request.method = name

    def header_lines(self) -> str:
        lines = [f"{name}:{value}\n" for name, value in self._request.headers.items()]
        return "".join(lines)

    def set_header(self, name: str, *values: str) -> str | None:
        # Scripts call this most often, so it has no decorator.
        headers = self._request.headers
        try:
            if len(values) == 1:
                headers.set(name, values[0])
            elif values:
                headers.set(name, list(values))
            else:
                headers.remove(name)
        except Exception as error:
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
        _check_length(text, "set_uri_args: expected a query")
        made = quote_from_bytes(bytes_of(text), _IN_ARGS)
        self._request.uri = self._request.path + ("?" + made if made else "")
        self._outcome.emptied = not made

    @crossing
    def set_uri(self, path: str) -> None:
        _check_length(path, "set_uri: expected a path")
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
        head = self._request.sent_head
        return head.partition("\r\n")[2] if without_line else head

    # The body.  Before a script runs, it is clear whether the body is here, is too large, or was
    # not waited for.

    def read_body(self) -> str | None:
        if self._request.body_state == BODY_IS_UNKNOWN:
            return (
                "ngx.req.read_body: nobody has waited for the body, since neither the script nor"
                " a module that it names has this name in its text: write ngx.req.read_body"
            )
        self._outcome.body_read = True
        return None

    def body_data(self) -> str | None:
        if not self._is_body_read():
            return None
        data = self._request.known_body
        return text_of(data) if data else None

    def form(self) -> str | bool:
        """The body, for Lua to parse as a form.  ``False`` if the script has not called
        read_body, ``True`` if the body is too large."""
        if not self._is_body_read():
            return False
        data = self._request.known_body
        return True if data is None else text_of(data)

    @crossing
    def set_body(self, text: str) -> None:
        if not self._is_body_read():
            raise ValueError("request body not read yet")
        self._request.body = bytes_of(text)
        self._outcome.body_set = True

    def discard_body(self) -> None:
        # As in nginx, a body that was read stays.
        if not self._is_body_read() and self._request.has_body:
            self._request.body = b""

    def _body_variable(self, outcome: Outcome) -> str | None:
        data = self.body_data()
        # As in nginx, an empty body that was sent is an empty text.
        is_empty = data is None and outcome.body_read and self._request.known_body is not None
        if is_empty and not outcome.body_set and self._request.raw_method in _WITH_BODY:
            return ""
        return data

    def _is_body_read(self) -> bool:
        outcome = self._call.outcome
        return outcome is not None and outcome.body_read

    def variable(self, name: str) -> str | None:
        # Scripts call this often, so it has no decorator.
        try:
            return self._variable(name)
        except Exception as error:
            self._failed(error)
            return None

    def _variable(self, name: str) -> str | None:
        read = VARIABLES.get(name)
        if read is not None:
            value = read(self._request)
            if value is None and name in _QUERY:
                # A query that the script has emptied is an empty text, and not nil.
                outcome = self._call.outcome
                return "" if outcome is not None and outcome.emptied else None
            return value
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
            return str(self.status()).zfill(3)
        if name == "request_body":
            return self._body_variable(outcome)
        return "-" if name == "x_error_code" else None

    @crossing
    def set_variable(self, name: str, value: str | None) -> str | None:
        if name in _QUERY:
            problem = self.set_args(value or "")
            self._outcome.emptied = value == ""
            return problem
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
        elif (
            name in VARIABLES
            or name == "request_body"
            or name.startswith(("arg_", "cookie_", "http_", "sent_http_"))
        ):
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
        outcome = self._outcome
        return outcome.status or (0 if outcome.said is None else 200)

    def sent(self) -> bool:
        return self._outcome.said is not None

    @crossing
    def set_status(self, status: float) -> None:
        # As in nginx, a fraction is cut off, and 0 is no status.
        if not (100 <= status < 1000 or 0 <= status < 1):
            raise ValueError(f"status: expected one from 100 to 999, got {status!r}")
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
            reply = outcome.reply = HookResponse(200, b"", None).headers
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
    def exit(self, status: float, message: str = "") -> None:
        if status in (0, -5):
            # The request goes on, unless the script has said something.
            return
        if status == -1:
            status = 444
        if not 200 <= status < 1000 or status != int(status):
            raise ValueError(f"exit: expected ngx.OK or a status from 200 to 999, got {status!r}")
        outcome = self._outcome
        outcome.ended = True
        if outcome.said is not None and status != 444:
            return
        if status == 444:
            outcome.said, outcome.reply = None, None
            outcome.answer = HookAnswer(444)
        elif status >= 300 or not outcome.status:
            outcome.status = int(status)
            outcome.message = _checked_message(message)

    @crossing
    def redirect(self, url: str, status: float) -> None:
        outcome = self._outcome
        if outcome.said is not None:
            raise ValueError("attempt to redirect after sending out the headers")
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"redirect: expected 301, 302, 303, 307 or 308, got {status!r}")
        _check_length(url, "redirect: expected a URL")
        if _CONTROLS.search(url.replace("\t", "")):
            raise ValueError("redirect: expected a URL without control characters")
        # The characters of a text from Lua are bytes.
        place = quote_from_bytes(bytes_of(url), _IN_ARGS + "#")
        outcome.answer = HookAnswer(int(status), None, b"", [b"Location: " + place.encode("ascii")])
        outcome.ended = True

    @crossing
    def exit_with(self, code: float, message: str) -> None:
        if not -1e15 < code < 1e15 or code != int(code):
            raise ValueError(f"slardar.exit: expected an integer as code, got {code!r}")
        errno = make_errno(int(code), _checked_message(message))
        outcome = self._outcome
        if errno.code == 0 or outcome.said is not None:
            return
        made = HookRequest(b"GET", b"/", b"")
        made.exit(errno)
        outcome.answer = made.answer
        outcome.ended = True

    # The rest.

    def module(self, name: str) -> str | None:
        code = self._call.owner.modules.get(name)
        return None if code is None else code.encode("utf-8", "replace").decode("latin-1")

    def setting(self, name: str) -> str | None:
        entry = self.settings.get(bytes_of(name).decode("utf-8", "replace"))
        return None if entry is None else source_of(json.loads(entry.text))

    def log(self, level: float, text: str) -> None:
        outcome = self._outcome
        outcome.lines += 1
        if outcome.lines > _MAX_LINES:
            return
        line = bytes_of(text).decode("utf-8", "replace")
        line = "".join(one if one.isprintable() else " " for one in line[:_MAX_LINE])
        self._log(_LEVELS[int(level)], f"{self._call.owner.name}: {line}")

    def regex(self, subject: str, pattern: str, options: str, start: float) -> Any:
        """Find a match, and log an expression that cannot be used.

        For such an expression the script gets ``nil`` and a message, as in nginx.  To a
        script that ignores the message this looks like "does not match".
        """
        found = find_match(subject, pattern, options, start)
        if type(found) is tuple and found[0] is None:
            self._complaints.complain(self._call.owner.name, pattern, found[1], self._log)
        return found

    def tls(self) -> str | None:
        """The client's TLS, as source text that makes a table of it; ``None`` without TLS."""
        tls = self._request.tls
        return None if tls is None else source_of(as_values(tls))

    def functions(self) -> dict[str, Any]:
        """The functions, by the names that the Lua files use."""
        own = (
            "args", "body_data", "choose", "clear_header", "discard_body", "exit", "exit_with",
            "form", "header_lines", "http_version", "log",
            "module", "raw_header", "read_body", "redirect", "reply_header", "say", "sent",
            "set_args", "set_body", "set_header", "set_headers", "set_method",
            "set_reply_header", "set_status", "set_uri", "set_variable", "setting", "start_time",
            "status", "tls", "variable",
        )  # fmt: skip
        functions = {
            **FUNCTIONS,
            **{name: getattr(self, name) for name in own},
            "clock": time.thread_time,
            "regex": self.regex,
            "regex_names": group_names,
            "seed": lambda: time.time_ns() % 2**31,
        }
        return {
            name: function
            if name in _SAFE or hasattr(function, "__wrapped__")
            else contained(function, self._failed)
            for name, function in functions.items()
        }

    def _failed(self, error: Exception) -> None:
        """Note that a function raised although it must not, which is a bug of slardar."""
        self._outcome.broken = f"{type(error).__name__}: {said(error)}"


def _checked_message(text: str) -> str:
    """The message that a script gives with its exit.  Raises ValueError if it is not one
    line."""
    return make_errno(0, bytes_of(text).decode("utf-8", "replace")).msg


def _check_length(text: str, expected: str) -> None:
    if len(text) > _MAX_URL:
        raise ValueError(f"{expected} of at most {_MAX_URL} bytes")
