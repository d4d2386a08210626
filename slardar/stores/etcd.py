"""etcd as a store: a tree of keys, read, written and watched through its JSON gateway."""

# Twisted's failures have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from slardar.errors import ConfigError, StoreError
from slardar.model.names import split_host_port
from slardar.model.reader import shown
from slardar.stores.etcd_client import Creator, Credentials, Gateway
from slardar.stores.etcd_exchange import Member
from slardar.stores.etcd_keys import Keys, base64
from slardar.stores.etcd_messages import TxnAnswer
from slardar.stores.etcd_watch import CHECK, GRACE, Watch
from slardar.stores.shared import SharedStore
from slardar.stores.tree import Content, LostRaceError, Tree, Write
from slardar.stores.urls import check_tls_options
from slardar.txconsul.tls import creator_for

__all__ = ["EtcdTree", "from_place", "tree_at"]

T = TypeVar("T")

_PLACE: Final = re.compile(r"(https?)://([^/?#]+)(/[^?#]*)?(?:\?([^#]*))?")
_OPTIONS: Final = ("ca", "cert", "credentials", "key", "timeout")
#: etcd's default for ``--max-request-bytes`` is 1.5 MiB.
_MAX_REQUEST: Final = 1_560_000
#: Bytes of a request for each key, beside the key and the value.
_EACH: Final = 48


class EtcdTree(Tree):
    """The keys below ``prefix``, such as ``b"/slardar/"``, of the etcd behind ``gateway``.

    ``check`` and ``grace`` are those of :class:`slardar.stores.etcd_watch.Watch`.
    """

    max_value = 1_400_000
    max_writes = 128
    #: The rest of 1.5 MiB is for what comes with each key.
    max_bytes = 1_420_000

    def __init__(
        self,
        gateway: Gateway,
        prefix: bytes,
        reactor: Any,
        check: tuple[float, float] = CHECK,
        grace: float = GRACE,
    ) -> None:
        #: What stands before a key in messages.
        self.prefix = prefix.decode(errors="backslashreplace")
        self._gateway = gateway
        self._keys = Keys(gateway, prefix)
        self._reactor = reactor
        self._check = check
        self._grace = grace
        self._watches: list[Watch] = []
        #: What is under way; once it is cancelled, with what fires when it is over.
        self._running: dict[Deferred[Any], Deferred[None] | None] = {}

    @property
    def name(self) -> str:
        """What messages call etcd: the member that is asked next."""
        return self._gateway.name

    def read(self) -> Deferred[Content]:
        """All keys, read in pages of one revision."""
        return self._start(self._keys.read({}))

    def write(self, writes: Sequence[Write]) -> Deferred[int]:
        """Write the keys in one transaction, which compares their revisions."""
        return self._start(self._write(writes))

    async def _write(self, writes: Sequence[Write]) -> int:
        name = self.name
        if len(writes) > self.max_writes:
            raise StoreError(f"{name}: {len(writes)} keys at a time are too many")
        compare: list[dict[str, str]] = []
        success: list[dict[str, Any]] = []
        size = 0
        for one in writes:
            key = self._keys.key(one.key)
            value = one.value or b""
            size += len(key) + len(value) + _EACH
            text = base64(key)
            if one.value is None:
                success.append({"request_delete_range": {"key": text}})
            else:
                success.append({"request_put": {"key": text, "value": base64(value)}})
            if one.expected is not None:
                size += len(key)
                wanted = {"target": "MOD", "result": "EQUAL", "mod_revision": str(one.expected)}
                compare.append({"key": text, **wanted})
        if size > _MAX_REQUEST:
            raise StoreError(f"{name}: {size} bytes at a time are too many for etcd (1.5 MiB)")
        body = {"compare": compare, "success": success}
        proof = {**self._keys.range(), "count_only": True}
        answer = await self._gateway.tell("kv/txn", body, TxnAnswer, proof)
        if not answer.succeeded:
            raise LostRaceError(f"{name}: somebody else has written meanwhile")
        return answer.header.revision

    def watch(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """Follow the keys from ``seen`` on."""
        watch = Watch(self._keys, self._reactor, seen, changed, failed, self._check, self._grace)
        self._watches.append(watch)
        self._start(watch.follow()).addErrback(_over)

    def close(self) -> Deferred[Any]:
        """Cancel everything at once; whoever waits for it gets a StoreError."""
        while self._watches:
            self._watches.pop().stop()
        ended: list[Deferred[None]] = []
        for running in list(self._running):
            gone: Deferred[None] = Deferred()
            self._running[running] = gone
            ended.append(gone)
            running.cancel()
        return DeferredList(ended)

    def _start(self, work: Coroutine[Any, Any, T]) -> Deferred[T]:
        running = Deferred.fromCoroutine(work)
        self._running[running] = None
        return running.addBoth(self._ended, running)

    def _ended(self, result: Any, running: Deferred[Any]) -> Any:
        gone = self._running.pop(running)
        if gone is None:
            return result
        gone.callback(None)
        if isinstance(result, Failure):
            raise StoreError(f"{self.name}: closed")
        return result


def _over(failure: Failure) -> None:
    """A watch ends when the tree is closed."""
    failure.trap(StoreError)


def from_place(place: str, reactor: Any) -> SharedStore:
    """The store of ``etcd:PLACE``, see :func:`tree_at`; opens nothing."""
    tree = tree_at(place, reactor)
    return SharedStore(tree, reactor, tree.prefix)


def tree_at(place: str, reactor: Any) -> EtcdTree:
    """The tree of ``etcd:PLACE``: ``http://HOST:2379,HOST:2379/slardar/?timeout=5``.

    Nothing is connected.  Raises ConfigError if the place is wrong.
    """
    match = _PLACE.fullmatch(place)
    if match is None:
        # What stands before an @ may be a password.
        got = "" if "@" in place else f", got {shown(place)}"
        raise ConfigError(f"etcd: expected http://HOST:2379/slardar/ after it{got}")
    scheme, hosts, path, query = match.groups()
    members = [_member(one, scheme == "https") for one in hosts.split(",")]
    prefix = unquote_to_bytes(path or "").strip(b"/")
    if not prefix:
        raise ConfigError("etcd: expected a path for the keys, such as /slardar/")
    options = _options(query or "")
    tls = _tls(options, scheme == "https", reactor is not None)
    gateway = Gateway(members, reactor, _credentials(options), _timeout(options), tls)
    return EtcdTree(gateway, b"/" + prefix + b"/", reactor)


def _member(text: str, secure: bool) -> Member:
    if "@" in text:
        raise ConfigError(
            "etcd: expected no user and password in the URL:"
            " give ETCD_USER and ETCD_PASSWORD, or credentials=FILE"
        )
    found = split_host_port(text, 2379)
    if found is None:
        raise ConfigError(f"etcd: expected members as HOST:PORT,HOST:PORT, got {shown(text)}")
    return Member(*found, secure)


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _OPTIONS:
            raise ConfigError(
                f"etcd: unknown option {shown(key)}, expected one of {', '.join(_OPTIONS)}"
            )
        if key in options or not value:
            raise ConfigError(f"etcd: option {key}: expected one value")
        options[key] = value
    return options


def _timeout(options: Mapping[str, str]) -> float:
    text = options.get("timeout", "5")
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 60:
        raise ConfigError(
            f"etcd: option timeout: expected seconds from 0.1 to 60, got {shown(text)}"
        )
    return seconds


def _credentials(options: Mapping[str, str]) -> Credentials | None:
    if "credentials" in options:
        return Credentials(file=options["credentials"])
    user, password = os.environ.get("ETCD_USER", ""), os.environ.get("ETCD_PASSWORD", "")
    if bool(user) != bool(password):
        missing = "ETCD_PASSWORD" if user else "ETCD_USER"
        raise ConfigError(f"etcd: expected both ETCD_USER and ETCD_PASSWORD: there is no {missing}")
    return Credentials(user, password) if user else None


def _tls(options: Mapping[str, str], secure: bool, read: bool) -> Creator | None:
    """What makes TLS connections to a host.  Files are only looked at if they are to be used."""
    check_tls_options("etcd", options, secure)
    if not secure or not read:
        return None
    cert = options.get("cert")
    paths = (cert, options["key"]) if cert and "key" in options else cert
    try:
        return creator_for(options.get("ca", True), paths)
    except ValueError as error:
        raise ConfigError(f"etcd: {error}") from None
