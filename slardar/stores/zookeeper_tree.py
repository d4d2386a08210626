"""A tree of keys in ZooKeeper (3.6 or newer): a key is the path of a node below the tree's root.

One recursive watch tells of all changes.  It is set before the tree is read, so no change is
missed; after that only the nodes are read of which it tells.  Nodes that were written together are
read one after the other, so one may be newer than another that was read before; but then the watch
has told of the other one, which is read again before the content is told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from kazoo.exceptions import (  # type: ignore[import-untyped]
    BadVersionError,
    NoAuthError,
    NodeExistsError,
    NoNodeError,
    NotEmptyError,
    RolledBackError,
    RuntimeInconsistency,
    UnimplementedError,
)
from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    Exists,
    GetChildren,
    Sync,
    Transaction,
    ZnodeStat,
)
from kazoo.security import (  # type: ignore[import-untyped]
    CREATOR_ALL_ACL,
    OPEN_ACL_UNSAFE,
)
from msgspec import Struct
from twisted.internet.defer import Deferred, DeferredList, DeferredLock, fail
from twisted.logger import Logger

from slardar.backoff import backoff
from slardar.errors import StoreError, one_line
from slardar.model.reader import shown
from slardar.stores.tree import Content, Entry, Tree, Write
from slardar.stores.zookeeper_plan import plan, value_of
from slardar.stores.zookeeper_session import Session
from slardar.stores.zookeeper_wire import AddWatch, MultiRead

__all__ = ["TIMEOUT", "ZooKeeperTree", "takes"]

T = TypeVar("T")

_log = Logger()

#: Seconds without an answer after which a server is left, and the session's timeout.
TIMEOUT = 5.0
#: Nodes that are read at once, and in one request.
_WINDOW = 500
_PACK = 20
#: Rounds in which changed nodes are read before a content is told though more have changed.
_ROUNDS = 20
#: Times that a transaction is made anew because other nodes were made beside it.
_TRIES = 20
#: Bytes of a request, at most; ZooKeeper closes a connection with one of 1 MiB.
_REQUEST = 1_000_000
#: Seconds between two contents that are told, at least, while changes go on.
_SPACING = 0.03
#: Seconds until the tree is read again after an error: at first, and at most.
_RETRY, _LONGEST_RETRY = 0.2, 10.0
#: Seconds for calls under way when the tree is closed.
_GRACE = 1.0

#: What ZooKeeper does not take in a path.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\uf8ff\ufff0-\uffff]")


class _Watcher(Struct):
    """Who is told of changes, and what was told last."""

    seen: Content
    changed: Callable[[Content], None]
    failed: Callable[[str], None]
    #: ``failed`` was called, and ``changed`` not since.
    failing: bool = False


class ZooKeeperTree(Tree):
    """The keys below the node ``root`` (``/slardar``) of ZooKeeper.

    ``hosts`` is ``HOST:PORT,HOST:PORT``.  ``auth`` is ``USER:PASSWORD`` for ZooKeeper's scheme
    ``digest``: nodes that are made are for this user alone then, and for everybody without it.
    ``timeout`` is in seconds, and is also asked for as the session's timeout.  A thread begins with
    the first call, and ends when the tree is closed.
    """

    max_value = 900_000
    max_writes = 500
    max_bytes = 900_000

    def __init__(
        self,
        hosts: str,
        root: str,
        reactor: Any,
        auth: str | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        self._hosts = hosts
        self.root = root
        self._reactor = reactor
        self._auth = auth
        self._acl = CREATOR_ALL_ACL if auth else OPEN_ACL_UNSAFE
        self._timeout = timeout
        self._session: Session | None = None
        #: Reads follow one after the other.
        self._lock = DeferredLock()
        #: What was read last, the connection that it came from (0: to be read as a whole), and the
        #: nodes that have changed since.
        self._content = Content(0, {})
        self._loaded = 0
        self._dirty: set[str] = set()
        #: Whether it may have other objects than the watcher knows.
        self._has_others = False
        self._watcher: _Watcher | None = None
        #: Whether the watcher's task runs, is to look again, waits after an error, or for more.
        self._following = False
        self._wanted = False
        self._timer: Any = None
        self._pause: Deferred[None] | None = None
        self._errors = 0
        self._under_way: set[Deferred[Any]] = set()
        self._closing: list[Deferred[Any]] = []

    def __repr__(self) -> str:
        return f"<{self.root} in ZooKeeper at {self._hosts}>"

    # Reading.

    def read(self) -> Deferred[Content]:
        """All keys; see :class:`Tree`."""
        return self._run(self._fresh())

    async def _fresh(self) -> Content:
        """The content as it is now.  One call at a time."""
        # Before the wait: the tree may be closed meanwhile, which is no reason to begin anew.
        session = self._started()
        await self._lock.acquire()
        try:
            await session.ready()
            try:
                await self._refresh(session)
            except BaseException:
                self._loaded = 0
                raise
            return self._content
        finally:
            self._lock.release()

    async def _refresh(self, session: Session) -> None:
        found = self._content.entries
        if self._loaded != session.connection:
            connection = session.connection
            found = await self._read_all(session)
            self._loaded = connection
            self._has_others = True
        else:
            # The server may be behind the others; it says what it did not know before it answers.
            self._expect(await session.ask([Sync(self.root)]), [self.root])
        for _ in range(_ROUNDS):
            if not self._dirty:
                break
            changed, self._dirty = list(self._dirty), set()
            newer = dict(found)
            for path, (entry, _more) in (await self._get(session, changed)).items():
                key = path[len(self.root) + 1 :]
                if entry is None:
                    newer.pop(key, None)
                elif newer.get(key) != entry:
                    newer[key] = entry
            found = newer
        if self._has_others:
            self._has_others = False
            found = _kept((self._watcher.seen if self._watcher else self._content).entries, found)
        self._content = Content(session.zxid, found)

    async def _read_all(self, session: Session) -> dict[str, Entry]:
        """All keys, with the watch set before."""
        answers = await session.ask([Sync(self.root), AddWatch(self.root)])
        if isinstance(answers[1], UnimplementedError):
            raise self._error("it is older than 3.6, so it has no recursive watch")
        self._expect(answers, [self.root] * 2)
        found: dict[str, Entry] = {}
        folders = [self.root]
        while folders:
            paths: list[str] = []
            for some in _windows(folders):
                lists = await session.ask([GetChildren(folder, None) for folder in some])
                self._expect(lists, some, NoNodeError)
                for folder, names in zip(some, lists, strict=True):
                    if isinstance(names, list):
                        paths += [f"{folder}/{name}" for name in names]
            folders = []
            for path, (entry, more) in (await self._get(session, paths)).items():
                if entry is not None:
                    found[path[len(self.root) + 1 :]] = entry
                if more:
                    folders.append(path)
        return found

    async def _get(
        self, session: Session, paths: Sequence[str]
    ) -> dict[str, tuple[Entry | None, bool]]:
        """By path: the entry, if it is a key; and whether there are nodes below."""
        found: dict[str, tuple[Entry | None, bool]] = {}
        for some in _windows(paths):
            packs = [some[start : start + _PACK] for start in range(0, len(some), _PACK)]
            answers = await session.ask([MultiRead(pack) for pack in packs])
            self._expect(answers, [pack[0] for pack in packs])
            answers = [one for answer in answers for one in answer]
            self._expect(answers, some, NoNodeError)
            for path, answer in zip(some, answers, strict=True):
                if isinstance(answer, NoNodeError):
                    found[path] = None, False
                    continue
                data, stat = answer
                entry = Entry(value_of(data), stat.mzxid) if data else None
                found[path] = entry, stat.numChildren > 0
        return found

    def _expect(
        self, answers: Iterable[Any], paths: Iterable[str], fine: type[Exception] | tuple[()] = ()
    ) -> None:
        """Raises StoreError for an answer that is an error, but one of the class ``fine``."""
        for path, answer in zip(paths, answers, strict=True):
            if isinstance(answer, Exception) and not isinstance(answer, fine):
                raise self._refusal(path, answer)

    def _refusal(self, path: str, error: Exception) -> StoreError:
        if isinstance(error, NoAuthError):
            who = "the user of ZOOKEEPER_AUTH" if self._auth else "without ZOOKEEPER_AUTH"
            return self._error(f"{path}: not allowed {'for ' if self._auth else ''}{who}")
        reason = f"{error}" or type(error).__doc__ or type(error).__name__
        return self._error(f"{path}: {' '.join(reason.split()).rstrip('.')}")

    def _error(self, reason: str) -> StoreError:
        return StoreError(f"ZooKeeper at {self._hosts}: {reason}")

    # Writing.

    def write(self, writes: Sequence[Write]) -> Deferred[int]:
        """Write some keys, all or none; see :class:`Tree`."""
        wanted = {self._path(one.key): one for one in writes}
        for path, one in wanted.items():
            size = 0 if one.value is None else len(one.value)
            if not takes(path):
                return fail(StoreError(f"{shown(one.key)}: ZooKeeper takes no such key"))
            if size > self.max_value:
                return fail(
                    StoreError(f"{one.key}: ZooKeeper takes {self.max_value} bytes, not {size}")
                )
        return self._run(self._write(wanted))

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"

    async def _write(self, wanted: Mapping[str, Write]) -> int:
        session = self._started()
        await session.ready()
        for _ in range(_TRIES):
            seen = await self._look(session, wanted)
            operations = plan(wanted, seen, self._acl)
            if not operations:
                return session.zxid
            request = Transaction(operations)
            size = len(request.serialize())
            if size > _REQUEST:
                raise self._error(
                    f"cannot write {len(wanted)} keys at once: {size} bytes, at most {_REQUEST}"
                )
            (answer,) = await self._commit(session, request)
            if isinstance(answer, list):
                errors = [one for one in answer if isinstance(one, Exception)]
                if not errors:
                    return next(
                        (one.mzxid for one in answer if isinstance(one, ZnodeStat)), session.zxid
                    )
            else:
                errors = [answer]
            # The others are what becomes of operations beside the one that failed.
            real = [
                one for one in errors if not isinstance(one, RolledBackError | RuntimeInconsistency)
            ]
            if not real or not isinstance(
                real[0], BadVersionError | NoNodeError | NodeExistsError | NotEmptyError
            ):
                raise self._refusal(self.root, (real or errors)[0])
            # Nothing is written: somebody else was faster.  If the keys are still as expected,
            # only nodes beside them have changed.
        raise self._error(f"{self.root}: others write all the time; nothing is written")

    def _commit(self, session: Session, request: Transaction) -> Deferred[list[Any]]:
        return session.ask([request])

    async def _look(self, session: Session, wanted: Iterable[str]) -> dict[str, Any]:
        """The stats of the nodes, and of those above them; ``None`` where there is none."""
        paths: dict[str, Any] = {}
        for path in wanted:
            while path and path not in paths:
                paths[path] = None
                path = path.rpartition("/")[0]
        # A server may be behind the others; before it answers this it says what it did not know.
        requests = [Sync(self.root), *(Exists(path, None) for path in paths)]
        answers = await session.ask(requests)
        self._expect(answers, [self.root, *paths])
        paths.update(zip(paths, answers[1:], strict=True))
        return paths

    # Watching.

    def watch(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """Tell of changes; see :class:`Tree`."""
        self._watcher = _Watcher(seen, changed, failed)
        self._has_others = True
        self._started()
        self._wake()

    def connected(self) -> None:
        """There is another connection, so all must be read again."""
        self._dirty.clear()
        self._loaded = self._errors = 0
        self._no_timer()
        self._wake()

    def lost(self, reason: str) -> None:
        """There is no connection, or again none could be made."""
        self._loaded = 0
        self._fail(reason)

    def happened(self, path: str) -> None:
        """A node has changed."""
        if path.startswith(f"{self.root}/"):
            self._dirty.add(path)
            self._wake()

    def _fail(self, reason: str) -> None:
        if self._watcher is not None:
            self._watcher.failing = True
            self._watcher.failed(reason)

    def _wake(self) -> None:
        """Look whether there is something to tell."""
        self._wanted = True
        if self._watcher is not None and not self._following and self._timer is None:
            self._following = True
            self._run(self._follow())

    async def _follow(self) -> None:
        """Tell the watcher all that there is to tell."""
        try:
            while self._wanted and self._watcher is not None:
                self._wanted = False
                watcher = self._watcher
                try:
                    content = await self._fresh()
                except StoreError as error:
                    if self._watcher is watcher:
                        self._problem(error)
                        return
                    continue  # The tree was closed meanwhile, and is used again.
                try:
                    if self._watcher is watcher:
                        self._tell(watcher, content)
                except Exception as error:
                    # A mistake in slardar must not be the end of the watch.
                    _log.failure("a content of ZooKeeper is not taken")
                    self._problem(self._error(one_line(error)))
                    return
                self._errors = 0
                self._pause = Deferred()
                timer = self._reactor.callLater(_SPACING, self._go_on)
                await self._pause
                if timer.active():
                    timer.cancel()
        finally:
            self._following = False

    def _problem(self, error: StoreError) -> None:
        if self._session is None or not self._session.connection:
            return  # It was told, and the next connection wakes us.
        self._fail(f"{error}")
        delay = backoff(_RETRY, _LONGEST_RETRY, self._errors)
        self._errors += 1
        self._timer = self._reactor.callLater(delay, self._again)

    def _again(self) -> None:
        self._timer = None
        self._wake()

    def _no_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    def _tell(self, watcher: _Watcher, content: Content) -> None:
        if watcher.failing or content.entries != watcher.seen.entries:
            watcher.seen, watcher.failing = content, False
            watcher.changed(content)

    # Life.

    def close(self) -> Deferred[Any]:
        """Let calls under way end, and end the session and the thread.  It takes up to 4 s if
        ZooKeeper is away.  The next call begins anew."""
        self._watcher = None
        self._no_timer()
        self._go_on()
        session, self._session = self._session, None
        if session is not None:
            session.owner = None
            ending = Deferred.fromCoroutine(self._end(session))
            self._closing.append(ending)
            ending.addBoth(lambda _: self._closing.remove(ending))
        # An earlier call may not have come to its end.
        return DeferredList(list(self._closing))

    async def _end(self, session: Session) -> None:
        if self._under_way:
            timer = self._reactor.callLater(_GRACE, session.close)
            await DeferredList(list(self._under_way))
            if timer.active():
                timer.cancel()
        await session.close()

    def _run(self, call: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Make a call that :meth:`close` waits for."""
        answer = Deferred.fromCoroutine(call)
        if not answer.called:
            self._under_way.add(answer)
            answer.addBoth(self._done, answer)
        return answer

    def _done(self, result: Any, answer: Deferred[Any]) -> Any:
        self._under_way.discard(answer)
        return result

    def _started(self) -> Session:
        if self._session is None:
            self._session = Session(self._hosts, self._timeout, self._auth, self._reactor, self)
        return self._session


def takes(path: str) -> bool:
    """Whether ZooKeeper takes such a path."""
    return not _REFUSED.search(path) and not {"", ".", ".."} & set(path[1:].split("/"))


def _windows(paths: Sequence[str]) -> Iterable[Sequence[str]]:
    for start in range(0, len(paths), _WINDOW):
        yield paths[start : start + _WINDOW]


def _kept(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> Mapping[str, Entry]:
    """``new``, with the objects of ``old`` where they are equal."""
    return {key: known if (known := old.get(key)) == entry else entry for key, entry in new.items()}
