"""HAProxy's conditions on host and path, as the keys of routes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from slardar.migration.statement import Statement

__all__ = ["Acls", "Match", "has_port"]

#: The keys of a route: ``host``, ``path``, ``path_regex``.
Match = Mapping[str, str]

_METHODS = {"beg": "beg", "end": "end", "reg": "reg", "dir": "dir", "sub": "sub", "str": "str"}
_HOST = re.compile(r"(?:req\.)?f?hdr(?:_(\w+))?\(host(?:,-?1)?\)", re.IGNORECASE)
#: A URL has the query, too, and may be absolute: only how it begins is known.
_PATH = re.compile(r"path(?:_(\w+))?|url_(beg)")
#: HAProxy puts variables of its environment into a text.
_VARIABLE = re.compile(r"\$[{A-Za-z_]")
#: What changes nothing for a host: slardar compares hosts in lower case and without a port.
_OF_HOSTS = ("lower", "field(1,:)", "host_only")


class Acls:
    """The ``acl`` lines of a section: several of one name are one, and any of them may match."""

    def __init__(self, lines: Iterable[Statement]) -> None:
        self._lines: dict[str, list[Statement]] = {}
        #: Lines that compare hosts with their ports.
        self.with_port: dict[int, Statement] = {}
        for line in lines:
            if len(line.args) > 1:
                self._lines.setdefault(line.args[0], []).append(line)

    def matches(self, words: Sequence[str], wider: bool = False) -> list[Match] | None:
        """The routes for what follows a rule: ``if`` and a condition, or nothing.

        ``None`` if no routes match the same requests.  If they may be ``wider``, what routes do not
        know is taken for true.  Lines that are used are done then.
        """
        if not words:
            return [{}]
        if words[0] != "if" or len(words) < 2:
            return [{}] if wider else None
        found: list[Match] = []
        used: list[Statement] = []
        for term in _terms(words[1:]):
            alternatives: list[Match] = [{}]
            for name in term:
                atoms = self._atoms(name, used)
                if atoms is None and wider:
                    continue
                if atoms is None:
                    return None
                combined = [_both(one, atom) for one in alternatives for atom in atoms]
                if any(one is None for one in combined) and wider:
                    continue
                if any(one is None for one in combined):
                    return None
                alternatives = [one for one in combined if one is not None and "" not in one]
            found += alternatives
        for line in used:
            line.take()
        return found

    def _atoms(self, name: str | list[str], used: list[Statement]) -> list[Match] | None:
        """What a name of a term, or an inline condition, asks for: any of these."""
        if isinstance(name, list):
            return _criterion(name)
        if name in ("TRUE", "always_true"):
            return [{}]
        lines = self._lines.get(name)
        if lines is None:
            return None
        found: list[Match] = []
        for line in lines:
            atoms = _criterion(line.args[1:])
            if atoms is None:
                return None
            if has_port(line.args[1]):
                self.with_port[id(line)] = line
            found += atoms
        used += lines
        return found


def has_port(fetch: str) -> bool:
    """Whether a criterion compares a Host with the port that clients may write behind it."""
    return re.fullmatch(r"(?:req\.)?f?hdr\(host(?:,-?1)?\)(?:,lower)?", fetch, re.I) is not None


def _terms(words: Sequence[str]) -> list[list[str | list[str]]]:
    """The terms of a condition, of which any may match: names, and inline conditions as lists."""
    terms: list[list[str | list[str]]] = [[]]
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word in ("or", "||"):
            terms.append([])
        elif word in ("{", "!{"):
            end = place + list(words[place:]).index("}") if "}" in words[place:] else len(words)
            # No criterion begins with "!", so what is negated is not known.
            terms[-1].append([*(["!"] if word == "!{" else ()), *words[place:end]])
            place = end + 1
        else:
            terms[-1].append(word)
    return terms


def _criterion(words: Sequence[str]) -> list[Match] | None:
    """What a criterion with its flags and patterns asks for, or ``None``."""
    if not words:
        return None
    fetch, *converters = re.split(r",(?![^(]*\))", words[0])
    host, path = _HOST.fullmatch(fetch), _PATH.fullmatch(fetch)
    found = host or path
    # What a converter does to the text is known of these alone; for all others, nobody knows here
    # which requests match.
    if found is None or any(one not in (_OF_HOSTS if host else ("lower",)) for one in converters):
        return None
    method = found[1] or (path[2] if path else None) or "str"
    folds = bool(converters)
    rest = list(words[1:])
    while rest and rest[0].startswith("-"):
        flag = rest.pop(0)
        if flag == "-i":
            folds = True
        elif flag == "-m" and rest:
            method = rest.pop(0)
        elif flag == "--":
            break
        else:
            return None
    if method not in _METHODS or not rest:
        return None
    if path and converters and any(text != text.lower() for text in rest):
        # Nothing in lower case is as these are.
        return None
    if any(_VARIABLE.search(text) for text in rest):
        return None
    atoms = [_host(method, text) if host else _path(method, text, folds) for text in rest]
    return None if any(one is None for one in atoms) else [one for one in atoms if one is not None]


def _host(method: str, text: str) -> Match | None:
    host = text.lower().removesuffix(".")
    if not re.fullmatch(r"[-_a-z0-9.]+", host):
        return None
    if method == "end" and host.startswith("."):
        return {"host": f"*{host}"}
    return {"host": host} if method == "str" else None


def _path(method: str, text: str, folds: bool) -> Match | None:
    plain = re.escape(text)
    if "?" in text and method != "reg":
        return None
    if method == "beg" and not folds:
        return {"path": text} if text.startswith("/") else None
    expressions = {
        "str": f"^{plain}$",
        "beg": f"^{plain}",
        "end": f"{plain}$",
        "sub": plain,
        "dir": f"(?:^|/){re.escape(text.strip('/'))}(?:/|$)",
        "reg": text,
    }
    return {"path_regex": f"(?i:{expressions[method]})" if folds else expressions[method]}


def _both(one: Match, other: Match) -> Match | None:
    """What matches both; ``{"": ""}`` if nothing does, and ``None`` if no route can tell."""
    paths = [dict(part).items() - {("host", part.get("host", ""))} for part in (one, other)]
    if paths[0] and paths[1] and paths[0] != paths[1]:
        return None
    hosts = [part["host"] for part in (one, other) if "host" in part]
    if len(hosts) == 2 and hosts[0] != hosts[1]:
        return None if any(host.startswith("*.") for host in hosts) else {"": ""}
    return {**one, **other}
