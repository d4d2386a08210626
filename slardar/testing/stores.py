"""What every store must do, as tests that any store can be put through.

A store's own test file says how to make one, and gets the tests of this class::

    class TestMyStore(StoreContract):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "mine.db"

        def make_store(self):
            return MyStore(self.path)

A store in which others write as well gets those of :class:`WatchedStoreContract`.  Both classes are
in one long file, for the second is the first and more.

Each test returns a Deferred, so they run under pytest-twisted and, with
``twisted.trial.unittest.TestCase`` as a second base class, under trial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.json import encode
from msgspec.structs import replace
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, gatherResults
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from slardar.errors import ConflictError, NotFoundError, StoreError
from slardar.interfaces import IStore, IWatchedStore
from slardar.model.change import TO_FILE, Change, Recorded, StoredState
from slardar.testing.contracts import Contract, deferred

__all__ = [
    "StoreContract",
    "WatchedStoreContract",
    "acme_of",
    "certificate_of",
    "change_of",
    "file_of",
    "hook_of",
]

#: Seconds until a store must have told what another has written.
_PATIENCE = 20.0


def change_of(name: str, value: object, who: str = "test", place: str = "") -> Change:
    """A change of the upstream ``name``, or of the routes if that is empty."""
    return Change("upstream" if name else "routes", name, value, who, 1700000000.25, place)


def hook_of(name: str, value: object) -> Change:
    """A change of the hook ``name``: language and name with a slash between."""
    return Change("hook", name, value, "test", 1700000000.25)


def service_of(name: str, value: object) -> Change:
    """A change of the service ``name``."""
    return Change("service", name, value, "test", 1700000000.25)


def setting_of(name: str, value: object) -> Change:
    """A change of the setting ``name``."""
    return Change("setting", name, value, "test", 1700000000.25)


def certificate_of(name: str, value: object) -> Change:
    """A change of the certificate ``name``."""
    return Change("certificate", name, value, "test", 1700000000.25)


def acme_of(name: str, value: object) -> Change:
    """A change of what the client of a CA keeps."""
    return Change("acme", name, value, "test", 1700000000.25)


def file_of(name: str, value: object) -> Change:
    """A record of what the file says of ``name``."""
    return Change("file", name, value, "test", 1700000000.25)


class StoreContract(Contract):
    """Tests of an :class:`slardar.interfaces.IStore`."""

    #: Whether a store that is opened later at the same place finds what was committed.
    durable = True
    #: Bytes of JSON that a value may have.
    largest = 2**20

    def make_store(self) -> Any:
        """A store that is not open yet.

        Within one test every call gives another store for the same place.  For each test the place
        is a new and empty one.
        """
        raise NotImplementedError

    @deferred
    async def test_store_provides_the_interface(self) -> None:
        """Every method is there, with the arguments that callers give."""
        verifyObject(IStore, self._make())

    @deferred
    async def test_new_store_is_empty(self) -> None:
        """Version 0, no upstreams, and routes that were never set."""
        _expect_state(await self._make().open(), StoredState())

    @deferred
    async def test_each_commit_is_another_revision(self) -> None:
        """Also one that changes nothing; a later open gives the last one."""
        writer = await self._opened()
        seen = [writer.revision]
        for change in (
            change_of("a", {"servers": []}),
            change_of("a", {"servers": []}),
            change_of("", []),
            change_of("a", None),
        ):
            await writer.commit(change)
            if writer.revision in seen:
                raise AssertionError(f"expected a new revision, got {_short(writer.revision)}")
            seen.append(writer.revision)
        await self._holds(writer, {"a": None}, [])

    @deferred
    async def test_version_is_the_callers(self) -> None:
        """It is given back as it was given with the last commit, whatever lies between."""
        writer = await self._opened()
        await writer.commit(change_of("a", 1), version=7)
        await writer.commit(change_of("a", 2), change_of("b", 2), version=2**40)
        await self._holds(writer, {"a": 2, "b": 2})

    @deferred
    async def test_commit_to_another_revision_changes_nothing(self) -> None:
        """One that has been, and one that never was, is a conflict; the right one then
        still works."""
        writer = await self._opened()
        first = writer.revision
        await writer.commit(change_of("a", 1))
        second = writer.revision
        await writer.commit(change_of("a", 2))
        for wrong in (first, second, -1, 2**40, "", "no such revision"):
            lost = [change_of("a", "lost")]
            await _fails(ConflictError, writer.store.commit(wrong, lost, 3))
        await writer.commit(change_of("b", 2))
        await self._holds(writer, {"a": 2, "b": 2})

    @deferred
    async def test_one_of_two_rivals_wins(self) -> None:
        """Of several commits to one revision under way together, the first is made."""
        writer = await self._opened()
        values = ("first", "second", "third")
        first, *rivals = [
            writer.store.commit(writer.revision, [change_of("a", value)], 1) for value in values
        ]
        writer.version, writer.revision = 1, await first
        for rival in rivals:
            await _fails(ConflictError, rival)
        await self._holds(writer, {"a": "first"})

    @deferred
    async def test_close_finishes_what_is_under_way(self) -> None:
        """By the time close fires, every commit called before it has been answered."""
        writer = await self._opened()
        answers = [writer.store.commit(writer.revision, [change_of("a", n)], 1) for n in range(5)]
        found: list[Any] = []
        for answer in answers:
            answer.addBoth(found.append)
        await writer.store.close()
        if len(found) != len(answers):
            raise AssertionError(f"expected {len(answers)} answers before the end, got {found}")
        writer.version, writer.revision = 1, found[0]
        for failure in found[1:]:
            failure.trap(ConflictError)
        await self._holds(writer, {"a": 0})

    @deferred
    async def test_values_come_back_as_they_were(self) -> None:
        """Any JSON value, whatever its types, characters and size."""
        writer = await self._opened()
        values: Mapping[str, Any] = {
            "plain": {"servers": [{"host": "127.0.0.1", "port": 80, "weight": 0.5}]},
            "empty": {},
            "false": False,
            "zero": 0,
            "text": "",
            "null inside": {"default": None, "list": [None]},
            "characters": {"é": "Ω \U0001f600 \x00 \" ' \\ \n"},
            "numbers": [2**63 - 1, -(2**63), 1e-300, 0.1],
            "deep": {"a": [[[[{"b": [{}]}]]]]},
            "long": "x" * (self.largest - 2),
            "*.wildcard.example": {"cluster": {"dc1": {"servers": []}}},
        }
        for name, value in values.items():
            await writer.commit(change_of(name, value))
        await self._holds(writer, values)

    @deferred
    async def test_value_is_taken_at_the_call(self) -> None:
        """What the caller does to the value, or to the list, afterwards is not stored."""
        writer = await self._opened()
        value = {"servers": ["first"]}
        changes = [change_of("a", value)]
        answer = writer.store.commit(writer.revision, changes, 1)
        value["servers"].append("late")
        changes.append(change_of("b", "late"))
        writer.version, writer.revision = 1, await answer
        await self._holds(writer, {"a": {"servers": ["first"]}})

    @deferred
    async def test_removed_upstream_stays_known(self) -> None:
        """It is kept as None, also if it was never there, until it is set again."""
        writer = await self._opened()
        await writer.commit(change_of("a", {"mode": "rr"}))
        await writer.commit(change_of("a", None))
        await writer.commit(change_of("from a file", None))
        writer = await self._holds(writer, {"a": None, "from a file": None})
        if self.durable:
            await writer.commit(change_of("a", {"mode": "hash"}))
            await self._holds(writer, {"a": {"mode": "hash"}, "from a file": None})

    @deferred
    async def test_routes_are_apart_from_upstreams(self) -> None:
        """They are set, replaced as a whole and removed without touching an upstream."""
        writer = await self._opened()
        routes = [{"host": "a.example", "path": "/", "upstream": "routes"}]
        await writer.commit(change_of("routes", {"servers": []}))
        await writer.commit(change_of("", routes))
        upstreams: Mapping[str, Any] = {"routes": {"servers": []}}
        writer = await self._holds(writer, upstreams, routes)
        if self.durable:
            await writer.commit(change_of("", []))
            writer = await self._holds(writer, upstreams, [])
            await writer.commit(change_of("", None))
            await self._holds(writer, upstreams)

    @deferred
    async def test_hooks_are_apart_from_upstreams(self) -> None:
        """They are set, replaced and removed by language and name; of one that was removed
        nothing is left, since no file could bring it back."""
        writer = await self._opened()
        name = "lua/script.*"
        hook = {"active": {"code": "x = 'é\\n'" * 10_000, "time": 1.5}, "staged": None}
        await writer.commit(change_of(name, {"servers": []}))
        await writer.commit(hook_of(name, {"active": None}))
        await writer.commit(hook_of(name, hook))
        await writer.commit(hook_of("python/script.*", hook))
        await writer.commit(hook_of("python/modules.gone", hook))
        await writer.commit(hook_of("python/modules.gone", None))
        upstreams: Mapping[str, Any] = {name: {"servers": []}}
        hooks: Mapping[str, Any] = {name: hook, "python/script.*": hook}
        writer = await self._holds(writer, upstreams, None, hooks)
        if self.durable:
            await writer.commit(change_of(name, None))
            await writer.commit(hook_of("python/script.*", None))
            await writer.commit(hook_of("python/modules.gone", 1))
            await self._holds(writer, {name: None}, None, {name: hook, "python/modules.gone": 1})

    @deferred
    async def test_services_are_apart_from_upstreams(self) -> None:
        """They are set, replaced and removed by name; a removed one leaves a mark, for a file may
        name it."""
        writer = await self._opened()
        service = {"dns_service": "_http._tcp.web.example"}
        await writer.commit(change_of("a", {"servers": []}))
        await writer.commit(service_of("a", {"dns_service": "x"}))
        await writer.commit(service_of("a", service), service_of("b", None))
        upstreams: Mapping[str, Any] = {"a": {"servers": []}}
        services: Mapping[str, Any] = {"a": service, "b": None}
        writer = await self._holds(writer, upstreams, services=services)
        if self.durable:
            await writer.commit(service_of("a", "file"), service_of("b", service))
            await self._holds(writer, upstreams, services={"a": "file", "b": service})

    @deferred
    async def test_settings_are_apart_from_upstreams(self) -> None:
        """They are set, replaced and removed by name; of one that was removed nothing is left.  Any
        JSON is a value, the word ``file`` among them."""
        writer = await self._opened()
        value = {"arg0": 0, "list": [None, "\u00e9\x00", 0.5]}
        for made in (change_of, hook_of, service_of):
            await writer.commit(made("a", {"x": 1}))
        await writer.commit(setting_of("a", 1), setting_of("a/b", "file"), setting_of("c", False))
        await writer.commit(setting_of("a", value), setting_of("c", None))
        one: Mapping[str, Any] = {"a": {"x": 1}}
        settings: Mapping[str, Any] = {"a": value, "a/b": "file"}
        writer = await self._holds(writer, one, None, one, services=one, settings=settings)
        if self.durable:
            await writer.commit(change_of("a", None), hook_of("a", None))
            await self._holds(writer, {"a": None}, services=one, settings=settings)

    @deferred
    async def test_certificates_are_apart_from_settings(self) -> None:
        """They and what the client of a CA keeps are set, replaced and removed by name; of one that
        was removed nothing is left."""
        writer = await self._opened()
        pair = {"cert": "-----\n\u00e9\n", "key": "-----\n"}
        await writer.commit(*(certificate_of(name, {"cert": "", "key": ""}) for name in "ab"))
        await writer.commit(*(acme_of(name, {"n": 0}) for name in ("account", "order/x", "gone")))
        await writer.commit(setting_of("a", 1), certificate_of("a", pair), acme_of("gone", None))
        await writer.commit(certificate_of("b", None), acme_of("order/x", {"n": [1, None]}))
        found = {"a": pair}
        acme = {"account": {"n": 0}, "order/x": {"n": [1, None]}}
        writer = await self._holds(writer, {}, settings={"a": 1}, certificates=found, acme=acme)
        if self.durable:
            await writer.commit(certificate_of("a", None), acme_of("account", None))
            acme.pop("account")
            await self._holds(writer, {}, settings={"a": 1}, acme=acme)

    @deferred
    async def test_history_keeps_no_private_key(self) -> None:
        """It tells that a certificate was set or removed.  What the client of a CA keeps is no part
        of it, even where it has a commit of its own; nor are both of a state of before."""
        writer = await self._opened()
        first = certificate_of("a", {"cert": "", "key": "-----PRIVATE-----"})
        second = certificate_of("a", {"cert": "x", "key": "-----PRIVATE-----"})
        await writer.commit(first, acme_of("account", {"key": "-----PRIVATE-----"}))
        await writer.commit(acme_of("account", {"key": "-----PRIVATE-----", "n": 1}), version=1)
        await writer.commit(second, change_of("u", 1))
        await writer.commit(acme_of("account", {"n": 2}), acme_of("order", {"n": 1}), version=2)
        await writer.commit(certificate_of("a", None), acme_of("order", None))
        wanted = [
            Recorded(3, certificate_of("a", None), {}),
            Recorded(2, certificate_of("a", {}), {}),
            Recorded(2, change_of("u", 1), TO_FILE),
            Recorded(1, certificate_of("a", {}), None),
        ]
        for again in range(2 if self.durable else 1):
            if again:
                await writer.store.close()
                await writer.store.open()
            _expect(await writer.store.history(None, 100), wanted)
            for version in range(4):
                state = StoredState(version, {"u": 1} if version > 1 else {})
                _expect_state(await writer.store.state_at(version), state)

    @deferred
    async def test_commits_of_a_client_of_a_ca_push_nothing_out_of_the_history(self) -> None:
        """However many there are."""
        store = self._make()
        store.keep_history(3)
        writer = _Writer(store, await store.open())
        for number in range(1, 4):
            await writer.commit(change_of("a", number))
        for number in range(1, 9):
            await writer.commit(acme_of("order", {"n": number}), version=3)
        told = [one.version for one in await store.history(None, 100)]
        _expect(told[:3], [3, 2, 1])

    @deferred
    async def test_file_is_apart_from_what_was_set(self) -> None:
        """What the file said is kept by the name of the thing; of what it says no more, nothing is
        left.  A record without a name, and one of a rollback, is only for the history."""
        writer = await self._opened()
        await writer.commit(file_of("upstreams.a", {"servers": [1]}), change_of("a", None))
        await writer.commit(file_of("routes", []), file_of("upstreams.b", 1), change_of("b", 2))
        await writer.commit(file_of("upstreams.b", None), file_of("", {"upstreams": ["b"]}))
        await writer.commit(Change("rollback", "", 1, "test", 0.0))
        file = {"upstreams.a": {"servers": [1]}, "routes": []}
        await self._holds(writer, {"a": None, "b": 2}, file=file)

    @deferred
    async def test_history_tells_what_was_changed(self) -> None:
        """Newest version first, with author, time and place, the value and the one before: the
        file's if there was none.  Changes of one version come in their order."""
        writer = await self._opened()
        of_file, added = {"servers": ["file"]}, {"servers": ["set"]}
        first = [file_of("upstreams.a", of_file), change_of("a", added, "ops", "192.0.2.1")]
        await writer.commit(*first)
        second = [change_of("", []), change_of("a", None), change_of("a", "file")]
        await writer.commit(*second)
        third = [hook_of("lua/script.a", {"active": 1}), setting_of("a", "file")]
        await writer.commit(*third)
        fourth = [hook_of("lua/script.a", None), file_of("upstreams.a", None)]
        fourth += [setting_of("a", None)]
        await writer.commit(*fourth, version=9)
        wanted = [
            Recorded(9, fourth[0], {"active": 1}),
            Recorded(9, fourth[1], of_file),
            Recorded(9, fourth[2], "file"),
            Recorded(3, third[0], None),
            Recorded(3, third[1], None),
            Recorded(2, second[0], TO_FILE),
            Recorded(2, second[1], added, of_file),
            Recorded(2, second[2], None, of_file),
            Recorded(1, first[0], None),
            Recorded(1, first[1], TO_FILE, of_file),
        ]
        for again in range(2 if self.durable else 1):
            if again:
                await writer.store.close()
                await writer.store.open()
            _expect(await writer.store.history(None, 100), wanted)
            _expect(await writer.store.history(3, 100), wanted[5:])
            _expect(await writer.store.history(1, 100), [])
            # Versions are whole.
            _expect(await writer.store.history(None, 5), wanted[:5])
            _expect(await writer.store.history(None, 6), wanted[:8])
            _expect(await writer.store.history(9, 1), wanted[3:5])

    @deferred
    async def test_history_is_told_in_pages(self) -> None:
        """A page ends after some changes, or when it gets too large.  Of a version with very many
        changes the first are told, and how many more there are."""
        writer = await self._opened()
        large = "x" * min(self.largest - 2, 1_000_000)
        await writer.commit(*(change_of(f"u{number}", number) for number in range(1000)))
        for number in range(9):
            await writer.commit(change_of("large", large), change_of("b", number))
        before, seen, rows = None, [], []
        while found := await writer.store.history(before, 1000):
            before = found[-1].version
            seen += list(dict.fromkeys(one.version for one in found))
            if sum(len(str(one.change.value)) for one in found) > 4_000_000:
                raise AssertionError(f"expected smaller pages, got one of {len(found)} changes")
            rows = found
        _expect(seen, list(range(10, 0, -1)))
        rows = [one for one in rows if one.version == 1]
        if not 0 < len(rows) < 1000 or len(rows) + rows[-1].more != 1000:
            raise AssertionError(f"expected 1000 changes in all, got {_short(rows[-1])}")
        _expect([one.change.name for one in rows], [f"u{n}" for n in range(len(rows))])

    @deferred
    async def test_state_of_every_version_is_known(self) -> None:
        """That before the first change, too, and those between two commits; a version that was
        never made is not found."""
        writer = await self._opened()
        states = {0: StoredState()}
        for number in range(1, 30):
            changes = [
                change_of(f"u{number % 3}", [None, {"n": number}, "file"][number % 4 % 3]),
                hook_of("lua/script.a", {"n": number} if number % 5 else None),
                file_of(f"upstreams.u{number % 2}", number if number % 3 else None),
                change_of("", [number] if number % 7 else None),
                service_of(f"s{number % 2}", [None, {"n": number}, "file"][number % 3]),
                setting_of(f"s{number % 2}", [None, {"n": number}, "file"][number % 3]),
            ][: 1 + number % 6]
            await writer.commit(*changes, version=number + number // 20)
            states[writer.version] = states[max(states)].after(changes, writer.version, 0)
        for again in range(2 if self.durable else 1):
            if again:
                await writer.store.close()
                await writer.store.open()
            for version, state in states.items():
                _expect_state(await writer.store.state_at(version), state)
            # A version that made no commit has changed nothing.
            _expect_state(await writer.store.state_at(20), replace(states[19], version=20))
            for version in (31, 2**40, -1):
                await _fails(NotFoundError, writer.store.state_at(version))

    @deferred
    async def test_history_is_limited(self) -> None:
        """With the oldest version go its changes, but not what they add up to."""
        store = self._make()
        store.keep_history(3)
        writer = _Writer(store, await store.open())
        await writer.commit(change_of("old", 1), hook_of("lua/script.a", 1), change_of("a", 1))
        for number in range(2, 11):
            await writer.commit(change_of("a", number), version=10 * number)
        told = [one.version for one in await store.history(None, 100)]
        _expect(told[:3], [100, 90, 80])
        if 1 in told:
            raise AssertionError(f"expected no version 1 any more, got {told}")
        await _fails(NotFoundError, store.state_at(1))
        await _fails(NotFoundError, store.state_at(0))
        for version in (70, 75, 80, 99, 100):
            upstreams = {"old": 1, "a": version // 10}
            state = StoredState(version, upstreams, None, {"lua/script.a": 1})
            _expect_state(await store.state_at(version), state)
        (last,) = await store.history(told[-1] + 1, 1)
        _expect(last.old, last.version // 10 - 1)
        await self._holds(writer, {"old": 1, "a": 10}, None, {"lua/script.a": 1})

    @deferred
    async def test_closed_store_tells_nothing(self) -> None:
        """Its history can be asked for while it is open."""
        store = self._make()
        for _ in range(2):
            await _fails(StoreError, store.history(None, 1))
            await _fails(StoreError, store.state_at(0))
            await store.open()
            _expect(await store.history(None, 1), [])
            await store.close()

    @deferred
    async def test_several_changes_are_one_commit(self) -> None:
        """All of them or none: one that cannot be stored leaves the others out; of two of
        the same thing the later one counts."""
        writer = await self._opened()
        await writer.commit(change_of("a", 1))
        before = writer.revision
        await writer.commit(change_of("a", 2), hook_of("lua/script.a", {"x": 1}), change_of("", []))
        late = [change_of("a", 3), change_of("b", 3)]
        await _fails(ConflictError, writer.store.commit(before, late, 3))
        wrong = [change_of("a", 4), change_of("b", object())]
        await _fails(StoreError, writer.store.commit(writer.revision, wrong, 3))
        await writer.commit(change_of("c", 5), change_of("c", 6))
        await self._holds(writer, {"a": 2, "c": 6}, [], {"lua/script.a": {"x": 1}})

    @deferred
    async def test_value_that_is_no_json_is_refused(self) -> None:
        """It is a StoreError, nothing is written, and the next commit works."""
        writer = await self._opened()
        wrong = [
            change_of("a", object()),
            change_of("a", {1j: 1}),
            change_of("a", "\ud800"),
            change_of("a", [{"a": {"b": object()}}]),
            change_of("\ud800", {}),
            change_of("a", {}, who="\ud800"),
        ]
        for change in wrong:
            await _fails(StoreError, writer.store.commit(writer.revision, [change], 1))
        await writer.commit(change_of("b", {}))
        await self._holds(writer, {"b": {}})

    @deferred
    async def test_unknown_kind_is_refused(self) -> None:
        """What could not be given back by open is not taken by commit."""
        writer = await self._opened()
        unknown: Any = "no such kind"
        for change in (
            Change(unknown, "a", {}, "test", 0.0),
            Change("routes", "a", [], "test", 0.0),
        ):
            await _fails(StoreError, writer.store.commit(writer.revision, [change], 1))
        await self._holds(writer, {})

    @deferred
    async def test_closed_store_takes_no_commits(self) -> None:
        """A commit before open, after close, or while closing is a StoreError."""
        store = self._make()
        changes = [change_of("a", {})]
        await _fails(StoreError, store.commit(0, changes, 1))
        revision = (await store.open()).revision
        closing = store.close()
        late = store.commit(revision, changes, 1)
        await closing
        await _fails(StoreError, late)
        await _fails(StoreError, store.commit(revision, changes, 1))

    @deferred
    async def test_store_is_opened_once(self) -> None:
        """Opening what is open is a StoreError, and does not disturb it."""
        writer = await self._opened()
        await _fails(StoreError, writer.store.open())
        await writer.commit(change_of("a", {}))
        await self._holds(writer, {"a": {}})

    @deferred
    async def test_close_may_be_called_at_any_time(self) -> None:
        """Before open, twice, and twice without waiting: it always fires with None."""
        store = self._make()
        _expect(await store.close(), None)
        await store.open()
        _expect(await gatherResults([store.close(), store.close()]), [None, None])
        _expect(await store.close(), None)

    @deferred
    async def test_closed_store_can_be_opened_again(self) -> None:
        """The same object: with what it held, or empty if it forgets."""
        writer = await self._opened()
        await writer.commit(change_of("a", {"mode": "rr"}))
        await writer.store.close()
        found = await writer.store.open()
        if self.durable:
            _expect_state(found, StoredState(1, {"a": {"mode": "rr"}}))
            _expect(found.revision, writer.revision)
        else:
            _expect_state(found, StoredState())
        writer = _Writer(writer.store, found)
        await writer.commit(change_of("a", None))
        await self._holds(writer, {"a": None})

    def _make(self) -> Any:
        store = self.make_store()
        self._made.append(store)
        return store

    async def _opened(self) -> _Writer:
        store = self._make()
        state = await store.open()
        _expect_state(state, StoredState())
        return _Writer(store, state)

    async def _holds(
        self,
        writer: _Writer,
        upstreams: Mapping[str, Any],
        routes: Any = None,
        hooks: Mapping[str, Any] | None = None,
        file: Mapping[str, Any] | None = None,
        services: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        certificates: Mapping[str, Any] | None = None,
        acme: Mapping[str, Any] | None = None,
    ) -> _Writer:
        """Close the store, open another at its place and return it.  It holds this, at the version
        and the revision of the last commit."""
        await writer.store.close()
        again = self._make()
        state = await again.open()
        if self.durable:
            wanted = StoredState(
                writer.version,
                upstreams,
                routes,
                hooks or {},
                file=file or {},
                services=services or {},
                settings=settings or {},
                certificates=certificates or {},
                acme=acme or {},
            )
            _expect_state(state, wanted)
            _expect(state.revision, writer.revision)
        else:
            _expect_state(state, StoredState())
        return _Writer(again, state)


class WatchedStoreContract(StoreContract):
    """Tests of an :class:`slardar.interfaces.IWatchedStore`: stores at one place tell each other
    what they write."""

    @deferred
    async def test_store_provides_watching(self) -> None:
        """Every method is there, with the arguments that callers give."""
        verifyObject(IWatchedStore, self._make())

    @deferred
    async def test_what_others_commit_is_told(self) -> None:
        """The whole state, by the name that the commit's answer gave it: so the next commit may
        come from anybody."""
        one, other = await self._watching(), await self._watching()
        value = {"servers": [{"host": "127.0.0.1", "port": 80}]}
        await one.commit(change_of("a", value), hook_of("lua/script.a", {"active": 1}))
        await other.sees(one.state)
        await other.commit(change_of("a", None), setting_of("x", 1))
        await one.sees(other.state)
        await one.commit(change_of("", [{"path": "/", "upstream": "b"}]), change_of("b", value))
        await other.sees(one.state)
        wanted = StoredState(
            3,
            {"a": None, "b": value},
            [{"path": "/", "upstream": "b"}],
            {"lua/script.a": {"active": 1}},
            settings={"x": 1},
        )
        _expect_state(other.state, wanted)
        fresh = self._make()
        _expect(await fresh.open(), other.state)

    @deferred
    async def test_what_was_committed_before_the_watch_is_told(self) -> None:
        """Between the opening and the watch."""
        one = self._make()
        state = await one.open()
        other = await self._watching()
        await other.commit(change_of("a", 1))
        late = _Watching(one, state)
        await late.sees(other.state)

    @deferred
    async def test_own_commits_may_be_told_but_change_nothing(self) -> None:
        """By the name that the answer gave; what is told after an answer is no older."""
        one, other = await self._watching(), await self._watching()
        told: list[tuple[int, StoredState]] = []
        one.listeners.append(lambda: told.append((len(answers), one.told[-1])))
        answers: list[Any] = []
        for number in range(1, 11):
            await one.commit(change_of("a", number))
            answers.append(one.state.revision)
        await other.sees(one.state)
        await other.commit(change_of("b", 1))
        await one.sees(other.state)
        revisions = [*answers, other.state.revision]
        for count, state in told:
            # The commit after the last answer may be under way.
            if state.revision not in revisions[max(0, count - 1) : count + 1]:
                raise AssertionError(f"after {count} answers: told of version {state.version}")

    @deferred
    async def test_states_are_told_in_order(self) -> None:
        """To somebody who only looks on, too; the last one is told."""
        one, other, third = [await self._watching() for _ in range(3)]
        for number in range(1, 11):
            writer, reader = (one, other) if number % 2 else (other, one)
            await writer.commit(change_of("a", number))
            await reader.sees(writer.state)
        await third.sees(reader.state)
        for node in (one, other, third):
            versions = [state.version for state in node.told]
            _expect(versions, sorted(versions))
            _expect([state.upstreams.get("a", 0) for state in node.told], versions)

    @deferred
    async def test_one_of_two_rivals_at_one_place_wins(self) -> None:
        """The other one has changed nothing, is told what has won, and can commit after it."""
        nodes = [await self._watching() for _ in range(2)]
        for number in range(1, 6):
            held = [node.state for node in nodes]
            made = [
                node.ask(change_of(f"u{n}", number), state=held[n]) for n, node in enumerate(nodes)
            ]
            answers: Any = await DeferredList(made, consumeErrors=True)
            (winner,) = [n for n, (is_made, _) in enumerate(answers) if is_made]
            answers[1 - winner][1].trap(ConflictError)
            nodes[winner].made(answers[winner][1])
            await nodes[1 - winner].sees(nodes[winner].state)
        _expect(nodes[0].state, nodes[1].state)
        values = {name: value for name, value in nodes[0].state.upstreams.items() if value == 5}
        _expect(list(values), [f"u{winner}"])

    @deferred
    async def test_large_commit_is_told_as_one(self) -> None:
        """Nobody is told of a part."""
        one, other = await self._watching(), await self._watching()
        for value in ("old", "new"):
            await one.commit(*(change_of(f"u{number}", value) for number in range(1000)))
            await other.sees(one.state)
        await one.commit(change_of("u0", None))
        await other.sees(one.state)
        for state in other.told:
            found = list(state.upstreams.values())
            if len(set(found[1:])) > 1 or len(found) not in (0, 1000):
                raise AssertionError(f"told of {len(found)} upstreams: {_short(set(found))}")

    @deferred
    async def test_all_who_write_at_once_agree(self) -> None:
        """Whoever has a conflict asks again; no change that was answered is lost, a large one or a
        small one."""
        nodes = [await self._watching() for _ in range(3)]

        async def write(number: int) -> None:
            for turn in range(6):
                count = 200 if turn == number else 1
                names = [f"u{number}.{one}" for one in range(count)]
                await nodes[number].insist(*(change_of(name, turn) for name in names))

        await gatherResults([ensureDeferred(write(number)) for number in range(3)])
        newest = max((node.state for node in nodes), key=lambda state: state.version)
        wanted = {
            f"u{number}.{one}": 5 if one == 0 else number
            for number in range(3)
            for one in range(200)
        }
        _expect(newest.upstreams, wanted)
        _expect(newest.version, 18)
        for node in nodes:
            await node.sees(newest)
        _expect(await self._make().open(), newest)

    @deferred
    async def test_closed_store_tells_nobody(self) -> None:
        """Until it is opened and watched again."""
        one, other = await self._watching(), await self._watching()
        await one.store.close()
        count = len(one.told)
        await other.commit(change_of("a", 1))
        third = await self._watching()
        await other.commit(change_of("a", 2))
        await third.sees(other.state)
        _expect(len(one.told), count)
        again = _Watching(one.store, await one.store.open())
        await other.commit(change_of("a", 3))
        await again.sees(other.state)

    async def _watching(self) -> _Watching:
        store = self._make()
        return _Watching(store, await store.open())


class _Watching:
    """What a store that is watched holds, by the rules of ``Configuration``."""

    def __init__(self, store: Any, state: StoredState) -> None:
        self.store = store
        self.state = state
        self.told: list[StoredState] = []
        self.listeners: list[Callable[[], object]] = []
        self._asked: tuple[Change, ...] = ()
        store.watch(self._changed, lambda reason: None)

    def _changed(self, state: StoredState) -> None:
        self.told.append(state)
        if state.revision != self.state.revision:
            self.state = state
        for listener in list(self.listeners):
            listener()

    def ask(self, *changes: Change, state: StoredState | None = None) -> Deferred[Any]:
        """Commit to a state, or to the one that it holds."""
        state = state or self.state
        self._asked = changes
        answer: Deferred[Any] = self.store.commit(state.revision, changes, state.version + 1)
        return answer

    def made(self, revision: Any) -> None:
        """The answer to :meth:`ask` has come."""
        self.state = self.state.after(self._asked, self.state.version + 1, revision)

    async def commit(self, *changes: Change) -> None:
        """Commit, and take the answer."""
        self.made(await self.ask(*changes))

    async def insist(self, *changes: Change) -> None:
        """Commit, and again after each conflict."""
        from twisted.internet import reactor  # noqa: TID251

        for _ in range(1000):
            try:
                return await self.commit(*changes)
            except ConflictError:
                # What has won may still be on its way here.
                await deferLater(reactor, 0.01)
        raise AssertionError("expected that a commit comes through some time")

    async def sees(self, wanted: StoredState) -> None:
        """Wait until it holds this state."""
        from twisted.internet import reactor  # noqa: TID251

        if self.state.revision != wanted.revision:
            seen: Deferred[None] = Deferred()

            def look() -> None:
                if self.state.revision == wanted.revision and not seen.called:
                    seen.callback(None)

            self.listeners.append(look)
            await seen.addTimeout(_PATIENCE, reactor)
        _expect(self.state, wanted)


class _Writer:
    """Commits to an open store, each time to the revision of the commit before."""

    def __init__(self, store: Any, state: StoredState) -> None:
        self.store = store
        self.version = state.version
        self.revision = state.revision

    async def commit(self, *changes: Change, version: int | None = None) -> None:
        """Make these changes as one; the version goes up by one if none is given."""
        version = self.version + 1 if version is None else version
        self.revision = await self.store.commit(self.revision, changes, version)
        self.version = version


def _expect_state(found: StoredState, wanted: StoredState) -> None:
    """Compare all but the revision, which is the store's own."""
    _expect(replace(found, revision=wanted.revision), wanted)


def _expect(found: object, wanted: object) -> None:
    """What ``assert`` would do, but under every test runner and ``python -O``."""
    # Python's == takes False for 0, and their JSON differs.
    if found != wanted or encode(found, order="sorted") != encode(wanted, order="sorted"):
        raise AssertionError(f"expected {_short(wanted)}, got {_short(found)}")


async def _fails(error: type[Exception], answer: Deferred[Any]) -> None:
    try:
        result = await answer
    except error as raised:
        if not str(raised) or "\n" in str(raised):
            raise AssertionError(f"expected one line of message, got {raised!s}") from None
        return
    raise AssertionError(f"expected {error.__name__}, got {_short(result)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 1000 else f"{text[:1000]}..."
