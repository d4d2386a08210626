"""Reads nginx.conf, with what it includes, into statements."""

from __future__ import annotations

from typing import Any

from slardar.errors import ConfigError, printable
from slardar.migration.haproxy_file import SECTIONS
from slardar.migration.statement import Statement

__all__ = ["read_nginx"]

#: How many arguments a directive has at least, of those that are read here.  crossplane counts them
#: within ``http`` only, and not in a file that is included there and read alone.
_LEAST = {
    "proxy_set_header": 2,
    **dict.fromkeys(("listen", "server_name", "location", "upstream", "return", "if", "map"), 1),
    **dict.fromkeys(("proxy_pass", "proxy_connect_timeout", "proxy_send_timeout"), 1),
    **dict.fromkeys(("proxy_read_timeout", "proxy_next_upstream", "proxy_next_upstream_tries"), 1),
    **dict.fromkeys(("proxy_next_upstream_timeout", "proxy_ssl_verify", "proxy_ssl_name"), 1),
    **dict.fromkeys(("proxy_ssl_server_name", "proxy_ssl_trusted_certificate"), 1),
    **dict.fromkeys(("proxy_ssl_certificate", "proxy_ssl_certificate_key", "ssl_certificate"), 1),
    **dict.fromkeys(("ssl_certificate_key", "ssl_client_certificate", "ssl_verify_client"), 1),
    **dict.fromkeys(("ssl_protocols", "ssl_ciphers", "client_max_body_size", "keepalive"), 1),
    **dict.fromkeys(("keepalive_timeout", "client_header_timeout", "client_body_timeout"), 1),
    **dict.fromkeys(("send_timeout", "lingering_timeout", "worker_shutdown_timeout", "hash"), 1),
    **dict.fromkeys(("worker_processes", "worker_connections", "set_real_ip_from"), 1),
    **dict.fromkeys(("real_ip_header", "ssl"), 1),
}
_DEEP = "it includes itself, or its blocks are too deep"
_OTHER = "expected nginx's configuration; for HAProxy use --from haproxy"


def read_nginx(path: str) -> list[Statement]:
    """The statements of a file, with those of included files in their places.  Blocks.

    Relative names of included files begin at the folder of ``path``.  Raises ConfigError with a
    line for each mistake, and if crossplane is not installed.
    """
    try:
        from crossplane import parse  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigError(
            "reading nginx.conf needs the package crossplane: pip install 'txslardar[import]'"
        ) from None
    try:
        # Files that are included elsewhere, such as one of conf.d, may be read alone, so that a
        # statement is not judged by what is around it.
        found = parse(path, check_ctx=False)
        if found["errors"]:
            raise ConfigError([_problem(path, one) for one in found["errors"]])
        for one in found["config"]:
            # crossplane leaves out a word at the end of a file.
            lines = [line for line in _lines(one["file"]) if line.strip()[:1] not in ("", "#")]
            if lines and not any(mark in lines[-1] for mark in ";}"):
                raise ConfigError(_unfinished(one["file"]))
        return _statements(found["config"], 0, found["config"][0]["parsed"])
    except RecursionError:
        raise ConfigError(f"{path}: {_DEEP}") from None


def _problem(path: str, error: dict[str, Any]) -> str:
    text = printable(" ".join(str(error["error"]).split()))
    file = error["file"] or path
    if text.startswith("maximum recursion depth"):
        return f"{file}: {_DEEP}"
    if not text:
        # crossplane has nothing to say of a file that ends within a directive.
        return _unfinished(file)
    text = text.removeprefix("[Errno 2] ")
    line = f":{error['line']}" if error["line"] else ""
    # crossplane ends its messages with file and line, if it knows them.
    return f"{file}{line}: {text.rpartition(' in ')[0] or text}"


def _unfinished(path: str) -> str:
    """What is wrong with a file whose last directive does not end."""
    lines = _lines(path)
    for number, line in enumerate(lines, 1):
        words = line.split()
        # A directive of nginx ends with ; or begins a block, and a section of HAProxy does neither.
        if words and words[0] in SECTIONS and words[-1][-1] not in ";{":
            return f"{path}:{number}: {_OTHER}"
    if not any(mark in line for line in lines for mark in ";{"):
        return f"{path}:1: {_OTHER}"
    return f'{path}:{len(lines)}: unexpected end of file, expecting ";" or "}}"'


def _lines(path: str) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read().rstrip().split("\n")


def _statements(files: list[dict[str, Any]], index: int, block: list[Any]) -> list[Statement]:
    """The statements of a block of one of the files.

    crossplane could put included files in their places itself, but then names the wrong file for
    what follows an ``include``.
    """
    found = []
    for one in block:
        if "includes" in one:
            for number in one["includes"]:
                found += _statements(files, number, files[number]["parsed"])
            continue
        inner = one.get("block")
        place = f"{files[index]['file']}:{one['line']}"
        least = 1 if one["directive"] == "server" and inner is None else 0
        if len(one["args"]) < _LEAST.get(one["directive"], least):
            raise ConfigError(
                f'{place}: invalid number of arguments in "{one["directive"]}" directive'
            )
        found.append(
            Statement(
                one["directive"],
                one["args"],
                files[index]["file"],
                one["line"],
                None if inner is None else _statements(files, index, inner),
            )
        )
    return found
