"""Messages between director and worker are equal after the way, and nothing else is accepted."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from msgspec import structs

from slardar.config import parse_settings
from slardar.health.verdicts import Verdict
from slardar.hooks.loaded import mark_of
from slardar.hooks.report import HookReport, ShadowReport
from slardar.model.hook import Hook
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Challenges, ClientPolicy, Keyring, Pair, ServerTls
from slardar.workers import messages
from slardar.workers.messages import Done, Report, ServerReport, Verdicts
from tests.hooks.kit import code, hook, hooks
from tests.workers.kit import snapshot, upstream

REPORT = Report(3, 1, 2, 3, 4, 5, 6, (ServerReport("a", "h", 80, 1, 0, 1, "ok", 0, 1.5, "x"),))


def test_upstream_with_every_key_survives() -> None:
    """A worker serves exactly the configured upstream."""
    body = {
        "cluster": {
            "one": {"servers": [{"host": "::1", "port": 1, "weight": 3, "max_conns": 7}], "try": 2},
            "two": {"servers": [{"host": "b.example", "port": 2, "state": "drain"}]},
        },
        "mode": "hash",
        "http_opts": {"query": "GET / HTTP/1.0\r\n\r\n", "statuses": {"502": False}},
        "timeout": 1.5,
        "retry_on": ["connect", "http_503"],
        "keepalive": 0,
    }
    before = parse_upstream("a", body, "a")
    message = messages.encode(messages.whole(snapshot(7, before)))
    (after,) = messages.decode_to_worker(message).upstreams  # type: ignore[union-attr]
    assert after == msgspec.structs.replace(before, source={}, digest=0)
    assert type(after.retry_on) is frozenset


def test_change_has_what_changed_and_nothing_else() -> None:
    """One upstream changed, one was removed, routes stayed: the 100 others are not in it."""
    upstreams = {f"u{n}": upstream(f"u{n}", 1000 + n) for n in range(100)}
    base = Snapshot.build(5, upstreams, (), None)
    following = base.with_upstream(upstream("u7", 7)).without_upstream("u8")
    change = messages.decode_to_worker(
        messages.encode(messages.delta(base, following, ["u7", "u8"]))
    )
    assert isinstance(change, messages.Delta)
    assert (change.base, change.version, change.gone) == (5, following.version, ("u8",))
    assert [one.name for one in change.upstreams] == ["u7"]
    assert change.routes is None


def test_routes_travel_when_they_change() -> None:
    """This also holds if all routes are removed."""
    base = snapshot(1, upstream("a", 1))
    routed = base.with_routes(parse_routes([{"host": "x", "upstream": "a"}], "routes"))
    assert messages.delta(base, routed, []).routes == routed.routes
    assert messages.delta(routed, routed.with_routes(()), []).routes == ()


def test_settings_of_a_worker_hold_no_secrets() -> None:
    """A process that serves requests needs neither the store's place nor tokens, but for the hashes
    of those that a request may bring."""
    boss = {"name": "boss", "sha256": "cd" * 32, "role": "admin"}
    team = {"name": "a", "sha256": "ef" * 32, "role": "admin", "names": ["*.team.example"]}
    raw = {
        "control": {
            "tokens": [{"name": "ops", "sha256": "ab" * 32}, boss, team],
            "allow": ["10.0.0.0/8"],
        },
        "store": "sqlite:secret.db",
        "timeouts": {"read": 5},
        "upstreams": {"a": {"servers": [{"host": "127.0.0.1", "port": 1}]}},
        "routes": [{"host": "x", "upstream": "a"}],
    }
    lean = messages.lean_settings(parse_settings(raw))
    text = messages.encode(lean).decode()
    assert lean.timeouts.read == 5
    assert [one.sha256 for one in lean.control.tokens] == ["cd" * 32]
    for secret in ("abab", "efef", "secret", "boss", "team.example", "10.0.0.0"):
        assert secret not in text


@pytest.mark.parametrize(
    "message",
    [
        REPORT,
        Verdicts(),
        Verdicts((Verdict("a", "127.0.0.1", 80, 9.5, "refused"), Verdict("a", "h", 1, 0, ""))),
    ],
)
def test_word_of_a_worker_is_taken(message: Any) -> None:
    """Each message of a worker is decoded to an equal one."""
    assert messages.decode_from_worker(messages.encode(message)) == message


def without(message: Any, /, **changes: Any) -> bytes:
    """The message as JSON, with some keys changed, or left out if ``None``."""
    data = {**json.loads(messages.encode(message)), **changes}
    return json.dumps({key: value for key, value in data.items() if value is not None}).encode()


def verdict(**changes: Any) -> bytes:
    """One verdict as a worker tells it, likewise."""
    about = {key: value for key, value in {**VERDICT, **changes}.items() if value is not None}
    return json.dumps({"type": "verdicts", "requests": [about]}).encode()


VERDICT = {"upstream": "a", "host": "h", "port": 80, "down_for": 1, "message": ""}
SERVER = ["a", "h", 80, 1, 0, 1, "ok", 0, 1.5, "x"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b'{"type":"begin"}',
        b'{"type":"nothing"}',
        b"[" * 100_000,
        b"\x80\x04\x95",  # the beginning of a pickle
        verdict(port=0),
        verdict(port="80"),
        verdict(down_for=-1),
        verdict(down_for=1).replace(b": 1,", b": 1e999,"),
        verdict(down_for=1).replace(b": 1,", b": NaN,"),
        verdict(message="x" * 1001),
        verdict(upstream="x" * 256),
        verdict(host=None),
        without(REPORT, requests=-1),
        without(REPORT, requests=2**60),
        without(REPORT, requests=1.5),
        without(REPORT, version=None),
        without(REPORT, servers=[SERVER[:5]]),
        without(REPORT, servers=[[*SERVER[:6], "fine", *SERVER[7:]]]),
        without(REPORT, servers={"a": 1}),
    ],
)
def test_anything_else_of_a_worker_is_refused(data: bytes) -> None:
    """With a ValueError in one line, whatever it is."""
    with pytest.raises(ValueError, match="it sent what is no message") as caught:
        messages.decode_from_worker(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [b"", b'{"type":"report"}', b'{"type":"done","version":"1"}'])
def test_answer_that_is_none_is_refused(data: bytes) -> None:
    """Answers are looked at as closely."""
    with pytest.raises(ValueError, match="it sent what is no message"):
        messages.decode_answer(data)
    assert messages.decode_answer(messages.encode(Done(4, stale=True))) == Done(4, stale=True)


# Hooks.

MARK = mark_of("python/script.a", code("x"))
ABOUT = HookReport("python/script.a", MARK, "active", "", 5, 1, 9000, ((40, 5),))
SHADOW = ShadowReport("python/script.a", MARK, 5, 1, ('{"request":"x"}',), 5, 0, 9000, ((40, 5),))


def decoded(message: Any) -> Any:
    """A message of the director as a worker gets it."""
    return messages.decode_to_worker(messages.encode(message))


def with_hooks(version: int, *some: Hook) -> Snapshot:
    """A snapshot with these hooks."""
    return Snapshot.build(version, {}, (), None, hooks(*some))


def test_hooks_travel_with_the_whole() -> None:
    """It has every version that a request may get, and no others."""
    plain = hook("script.a", "one", previous="old", staged="two", on_error="previous")
    canary = hook("script.b", "one", staged="two", canary=10)
    shadow = hook("lua/script.c", "modules.x", staged="two", shadow=True)
    module = hook("lua/modules.x", "ex", staged="new")
    found = decoded(messages.whole(with_hooks(1, plain, canary, shadow, module))).hooks
    assert found == (
        msgspec.structs.replace(plain, staged=None),
        canary,
        shadow,
        msgspec.structs.replace(module, staged=None),
    )


def test_change_has_the_hooks_that_changed() -> None:
    """It also has the keys of removed hooks."""
    same, old, gone = hook("script.a", "x"), hook("script.b", "x"), hook("lua/script.c", "x")
    base = with_hooks(1, same, old, gone)
    new = hook("script.b", "y")
    change = decoded(messages.delta(base, base.with_hooks({new.key: new, gone.key: None}), []))
    assert change.hooks == (new,)
    assert change.gone_hooks == (("lua", "script.c"),)


def test_staging_is_nothing_to_a_worker() -> None:
    """Only a canary or a shadow, or the end of one, changes anything for a worker."""
    base = with_hooks(1, hook("script.a", "x"))
    (known,) = base.hooks.values()
    staged = msgspec.structs.replace(known, staged=code("y"))
    waiting = base.with_hooks({known.key: staged})
    assert messages.delta(base, waiting, []).hooks == ()
    first = hook("script.b", staged="y")
    assert messages.delta(base, base.with_hooks({first.key: first}), []).hooks != ()
    canary = msgspec.structs.replace(staged, canary=10)
    trying = waiting.with_hooks({known.key: canary})
    assert messages.delta(waiting, trying, []).hooks == (canary,)
    assert messages.delta(trying, waiting, []).hooks == (known,)


@pytest.mark.parametrize(
    "message",
    [
        messages.SuspendHook(2**32 - 1),
        messages.SuspendHook(1, "é\0\n" * 100_000),
        messages.TimeServers(15.0),
    ],
)
def test_word_of_the_director_arrives(message: Any) -> None:
    """Each message of the director is decoded to an equal one."""
    assert decoded(message) == message


@pytest.mark.parametrize(
    "message",
    [
        messages.HookFailed(MARK),
        messages.HookHeavy(MARK, "it held too much"),
        messages.Grown(),
        msgspec.structs.replace(REPORT, hooks=(ABOUT,), shadows=(SHADOW,)),
    ],
)
def test_what_a_worker_says_of_hooks_is_taken(message: Any) -> None:
    """Failures come at once, counters with its report."""
    assert messages.decode_from_worker(messages.encode(message)) == message


def about(place: int, value: Any, of: Any = ABOUT) -> bytes:
    """A report on a hook with one wrong field."""
    wrong = list(json.loads(messages.encode(of)))
    wrong[place] = value
    return without(REPORT, **{"hooks" if of is ABOUT else "shadows": [wrong]})


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"failed"}', b'{"type":"failed","mark":-1}', b'{"type":"failed","mark":"x"}',
        b'{"type":"heavy","mark":5}', b'{"type":"heavy","mark":-1,"reason":""}',
        b'{"type":"heavy","mark":5,"reason":"%s"}' % (b"x" * 1001),
        b'{"type":"failed","mark":4294967297}', b'{"type":"failed","mark":1.5}',
        about(0, "x" * 301), about(0, None), about(1, -1), about(1, 2**33), about(2, "fine"),
        about(3, "x" * 1001), about(4, -1), about(5, 2**60), about(6, 1.5),
        about(7, [[261, 1]]), about(7, [[-1, 1]]), about(7, [[1, -1]]), about(7, [[1]]),
        about(7, [[1, 1]] * 261), about(7, {"1": 1}),
        about(2, -1, SHADOW), about(4, ["x" * 20001], SHADOW), about(4, ["{}"] * 6, SHADOW),
        about(4, [{}], SHADOW), about(8, [[261, 1]], SHADOW),
        without(REPORT, hooks=[[]]), without(REPORT, hooks=5), without(REPORT, shadows=[["x"]]),
    ],
)  # fmt: skip
def test_anything_else_on_hooks_is_refused(data: bytes) -> None:
    """A worker that a hook has taken over gets no further than that."""
    with pytest.raises(ValueError, match="it sent what is no message"):
        messages.decode_from_worker(data)


def test_settings_of_hooks_travel() -> None:
    """With the whole, and those that have changed with a change."""
    base = snapshot(1).with_settings({"same": "1", "old": "1", "gone": "1"})
    assert decoded(messages.whole(base)).settings == dict(base.settings)
    following = base.with_settings({"same": "1", "old": "2", "new": "3"})
    change = decoded(messages.delta(base, following, []))
    assert (change.settings, change.gone_settings) == ({"old": "2", "new": "3"}, ("gone",))
    other = following.with_upstream(upstream("a", 1))
    change = decoded(messages.delta(following, other, ["a"]))
    assert (change.settings, change.gone_settings) == ({}, ())


def test_certificates_and_challenges_travel() -> None:
    same, old, new = (
        Pair("store: a", f"cert {one}", "key", ("a.example",), "ec", 1, staple=b"\x30\x00")
        for one in range(3)
    )
    base = snapshot(1).with_certificates({"same": same, "old": old, "gone": old})
    base = base.with_challenges(Challenges({"token": "answer"}, {"a.example": same}))
    carried = decoded(messages.whole(base))
    assert (carried.certificates, carried.challenges) == (dict(base.certificates), base.challenges)
    following = base.with_certificates({"same": same, "old": new, "new": new})
    change = decoded(messages.delta(base, following, ()))
    assert (change.certificates, change.gone_certificates) == ({"old": new, "new": new}, ("gone",))
    assert change.challenges is None
    change = decoded(messages.delta(base, base.with_challenges(Challenges()), ()))
    assert (change.certificates, change.gone_certificates) == ({}, ())
    assert change.challenges == Challenges()


def test_settings_of_hooks_do_not_travel_with_those_of_the_process() -> None:
    """They come with the snapshot, and only once."""
    assert messages.lean_settings(parse_settings({"settings": {"a": 1}})).first_settings == {}


def test_keyring_travels_as_what_has_changed() -> None:
    """One of ten thousand certificates is one message of its size."""

    def pair(source: str) -> Pair:
        return Pair(source, f"cert {source}", "key", (source,), "ec", 0)

    a, b, c, d = (pair(source) for source in "abcd")
    before = Keyring((a, b, c))
    after = Keyring((d, c, a), "x", policies=(ClientPolicy("require", "ca"),))
    data = messages.encode(messages.keyring_change(before, after))
    assert b"cert d" in data
    for source in "abc":
        assert f"cert {source}".encode() not in data
    told = messages.decode_to_worker(data)
    assert isinstance(told, messages.TakeKeyring)
    taken = messages.changed_keyring(before, told)
    # What was there comes first, so both sides have the same order.
    assert taken.pairs == (a, c, d)
    assert (taken.default, taken.policies) == ("x", after.policies)
    with pytest.raises(ValueError, match="expected 3 certificates, have 1"):
        messages.changed_keyring(Keyring((a,)), told)


def test_files_of_tls_travel_once() -> None:
    """However many upstreams name them: a file of CAs is large."""
    tls = ServerTls(ca="CA" * 1000, cert="CERT", key="KEY", ca_file="/ca", cert_file="/c")
    plain = parse_upstream("plain", {"servers": [{"host": "a", "port": 1, "tls": True}]}, "x")
    secured = [
        structs.replace(
            parse_upstream(name, {"servers": [{"host": "a", "port": 1}]}, "x"),
            tls=tls,
            server_tls={"a:1": structs.replace(tls, server_name=name), "b:1": None},
        )
        for name in "abc"
    ]
    upstreams = {one.name: one for one in [plain, *secured]}
    snapshot = Snapshot.build(2, upstreams, (), None)
    for message in (
        messages.whole(snapshot),
        messages.delta(Snapshot.build(1, {}, (), None), snapshot, list(upstreams)),
    ):
        data = messages.encode(message)
        assert data.count(b"CERT") == data.count(b"KEY") == 1
        assert data.count(b"CA" * 1000) == 1
        found: Any = messages.decode_to_worker(data)
        arrived = {one.name: one for one in found.upstreams}
        assert arrived["plain"].server_tls == {"a:1": ServerTls()}
        for one in secured:
            assert arrived[one.name].tls == one.tls
            assert arrived[one.name].server_tls == one.server_tls
