"""What a data plane keeps of decisions: which requests it keeps them of, and for how long.

A decision is kept of each request to an upstream with ``decisions``, and of each request that
brings an admin's token in ``X-Slardar-Explain``.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec
from twisted.logger import Logger

from slardar.config import Token
from slardar.dataplane.decision import Decision
from slardar.dataplane.explanation import (
    AttemptTold,
    DecisionTold,
    Explanation,
    Refusal,
    explanation_of,
)
from slardar.dataplane.plane_hooks import PlaneHooks
from slardar.dataplane.selection import Selection
from slardar.hooks.rehearsal import HookEffect, short
from slardar.http1.forwarded import settle
from slardar.http1.heads import BadMessage
from slardar.http1.interfaces import Clock
from slardar.http1.record import BY_HOOK, AttemptRecord, DecisionNote, RequestRecord
from slardar.http1.request import Request, parse_request
from slardar.model.snapshot import Choice

__all__ = ["Decisions", "worker_of"]

#: What is kept at most: records, their bytes, and seconds.
MAX_RECORDS = 10_000
MAX_BYTES = 16 << 20
MAX_AGE = 600.0
#: Tokens in ``X-Slardar-Explain`` that are looked at in a second: whoever guesses gets no further.
#: And bytes of one.
MAX_GUESSES = 10
_MAX_TOKEN = 1024

#: Seconds between two lines of the log about decisions that could not be kept.
_COMPLAINT_PAUSE = 60.0

_log = Logger("slardar.dataplane")

_ID = re.compile(r"(0|[1-9][0-9]{0,3})-[0-9a-f]{32}")

_decoder = msgspec.json.Decoder(DecisionTold)


def worker_of(decision_id: str) -> int | None:
    """The number of the worker that has made a decision; ``None`` for what is no id."""
    found = _ID.fullmatch(decision_id)
    return None if found is None else int(found[1])


class _Kept(NamedTuple):
    """A record that is kept, as JSON, and until when."""

    data: bytes
    until: float


class Decisions:
    """The decisions of one data plane.

    ``choose(request)`` tells where host and path lead, and ``version()`` gives the version of the
    configuration in service.  ``tokens`` are those of the control channels, ``worker`` is the name
    of this process, and ``under_way()`` gives the records of the requests under way.
    """

    def __init__(
        self,
        clock: Clock,
        tokens: Iterable[Token],
        worker: str,
        hooks: PlaneHooks,
        choose: Callable[[Request], Choice],
        version: Callable[[], int],
        under_way: Callable[[], Iterator[RequestRecord]],
    ) -> None:
        self._clock = clock
        # A token for some names has no say over requests for others.
        self._digests = [
            bytes.fromhex(one.sha256) for one in tokens if one.role == "admin" and not one.names
        ]
        self._worker = worker
        self._number = worker.rpartition("-")[2]
        self._hooks = hooks
        self._choose = choose
        self._version = version
        self._under_way = under_way
        #: By id, the oldest first.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._size = 0
        #: When the log may say again that one could not be kept, in monotonic seconds.
        self._next_complaint = 0.0
        self._second = 0
        self._guesses = 0

    def __len__(self) -> int:
        return len(self._kept)

    # Of which requests.

    def ask(self, record: RequestRecord, token: bytes) -> None:
        """A request brings a token: if it is an admin's, keep what is decided for it."""
        if self._is_admin(token):
            record.decision = self._begin()

    def _is_admin(self, token: bytes) -> bool:
        second = int(self._clock.now)
        if second != self._second:
            self._second, self._guesses = second, 0
        if not self._digests or len(token) > _MAX_TOKEN or self._guesses >= MAX_GUESSES:
            return False
        digest = hashlib.sha256(token).digest()
        found = False
        for known in self._digests:
            # No early end: each wrong token takes as long.
            if hmac.compare_digest(digest, known):
                found = True
        if not found:
            self._guesses += 1
        return found

    def _begin(self) -> DecisionNote:
        return DecisionNote(f"{self._number}-{os.urandom(16).hex()}")

    # What was decided.

    def note(self, record: RequestRecord, request: Request, selection: Selection) -> None:
        """The request has reached an upstream, and its first server is about to be picked."""
        note = record.decision
        if note is None:
            note = record.decision = self._begin()
        try:
            note.told = self._of_upstream(record, request, selection)
        except Exception:
            self._complain()

    def _of_upstream(
        self, record: RequestRecord, request: Request, selection: Selection
    ) -> Explanation:
        choice = self._choose(request)
        if choice.upstream != selection.name:
            effects = self._hooks.seen_by(record.host)
            choice = Choice(selection.name, "hook" if effects else "resource")
        decision = Decision(choice, selection.upstream.mode, selection.preview(request), "")
        return self._explained(record, request, decision)

    def _complain(self) -> None:
        """Nothing that is only told may cost a request."""
        if self._clock.now >= self._next_complaint:
            self._next_complaint = self._clock.now + _COMPLAINT_PAUSE
            _log.failure("a decision could not be kept")

    def _explained(
        self, record: RequestRecord, request: Request, decision: Decision
    ) -> Explanation:
        return explanation_of(
            decision,
            request,
            self._effects(record),
            None,
            self._version(),
            self._worker,
            _before(request),
            is_kept=True,
        )

    def _effects(self, record: RequestRecord) -> list[HookEffect]:
        """The hooks that have seen a request, up to the one that has answered it."""
        found = []
        for path in self._hooks.seen_by(record.host):
            is_named = path == record.hook
            is_answer = is_named and record.answered_by == BY_HOOK
            outcome = "continues"
            if is_named:
                outcome = "answered" if is_answer and not record.error else "failed"
            found.append(HookEffect(path, outcome, status=record.status if is_answer else 0))
            if is_answer:
                break
        return found

    def keep(self, record: RequestRecord) -> None:
        """The request has ended: keep its decision."""
        note = record.decision
        if note is None:
            return
        now = self._clock.now
        try:
            data = msgspec.json.encode(self._told(note, record, record.ended))
        except Exception:
            self._complain()
            return
        kept = self._kept
        kept[note.id] = _Kept(data, now + MAX_AGE)
        self._size += len(data)
        while kept and (
            len(kept) > MAX_RECORDS
            or self._size > MAX_BYTES
            or next(iter(kept.values())).until <= now
        ):
            _, oldest = kept.popitem(last=False)
            self._size -= len(oldest.data)

    def find(self, decision_id: str) -> DecisionTold | None:
        """The record of a decision; ``None`` if there is none, or if it is forgotten."""
        kept = self._kept.get(decision_id)
        if kept is not None:
            return _decoder.decode(kept.data) if self._clock.now < kept.until else None
        for record in self._under_way():
            note = record.decision
            if note is not None and hmac.compare_digest(note.id, decision_id):
                return self._told(note, record, 0.0)
        return None

    def _told(self, note: DecisionNote, record: RequestRecord, ended: float) -> DecisionTold:
        """What there is to tell of a request that ended then; 0: it is under way."""
        seconds = max(0.0, (ended or self._clock.now) - record.started)
        attempts = record.attempts
        explained = note.told
        if not isinstance(explained, Explanation):
            explained = self._unexplained(record)
        if explained.server is None and attempts:
            # Nobody could tell it before.
            explained = msgspec.structs.replace(explained, server=attempts[0].server, note="")
        return DecisionTold(
            note.id,
            time.time() - max(0.0, self._clock.now - record.started),
            _text(record.client),
            _text(record.method),
            short(record.host),
            _text(record.uri),
            explained,
            tuple(_attempt(one, record.started) for one in attempts),
            max(0, len(attempts) - 1),
            record.queued,
            seconds,
            record.status,
            record.answered_by,
            short(record.server),
            short(record.error),
            ended > 0,
        )

    def _unexplained(self, record: RequestRecord) -> Explanation:
        """The explanation of a request that has reached no upstream."""
        request = record.request or Request(record.method, record.uri, [b""])
        choice = Choice(None) if record.answered_by == BY_HOOK else self._choose(request)
        explained = self._explained(record, request, Decision(choice, "", None, record.error))
        if record.answered_by == BY_HOOK:
            refusal = Refusal(record.status, "a hook answers")
            return msgspec.structs.replace(explained, refusal=refusal)
        return explained


def _before(request: Request) -> Request | None:
    """The request as its client sent it, without what was not believed; ``None`` if that is not
    known."""
    try:
        before = parse_request(request.head, 10_000, len(request.head))
    except (BadMessage, IndexError):
        return None
    settle(before, None if request.told is None else request.told.trusted)
    return before


def _attempt(about: AttemptRecord, began: float) -> AttemptTold:
    return AttemptTold(
        short(about.server),
        max(0.0, about.started - began),
        _since(about.connected, began),
        _since(about.first_byte, began),
        _since(about.ended, began),
        about.status,
        about.failure,
        short(about.error),
    )


def _since(moment: float, began: float) -> float | None:
    return max(0.0, moment - began) if moment else None


def _text(raw: bytes) -> str:
    return short(raw.decode("utf-8", "backslashreplace"))
