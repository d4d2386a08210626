"""Contexts of TLS: which one serves a name, how many are kept, and which sessions resume."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from slardar.dataplane import tls_contexts
from slardar.dataplane.openssl import NoOpenSslError, OpenSsl, openssl
from slardar.dataplane.tls_contexts import Served, TlsContexts
from slardar.model.listener import UNNAMED, ListenerSpec
from slardar.model.tls import ClientPolicy, Keyring, Pair, TicketKeys, Verify, stricter
from tests.certificates import Authority
from tests.dataplane.kit import logged

Keys = Callable[..., Keyring]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Signs the certificates of these tests."""
    return Authority(tmp_path_factory.mktemp("ca"))


KINDS: tuple[Verify, ...] = ("none", "optional", "require")


class Maker:
    """Makes pairs."""

    def __init__(self, authority: Authority) -> None:
        self._authority = authority
        self._made: dict[Any, Pair] = {}

    def pair(self, *names: str, policy: int = 0, rsa: bool = False, number: int = 0) -> Pair:
        """A pair for these names: the same one each time, for each ``number``."""
        key = (names, rsa, number)
        if key not in self._made:
            paths = self._authority.issue("pair", names, 2048 if rsa else 0)
            cert, private = (path.read_text() for path in paths)
            kind = "rsa" if rsa else "ec"
            self._made[key] = Pair(f"{names[0]}.pem", cert, private, names, kind, 10 + number)
        return structs.replace(self._made[key], policy=policy)


@pytest.fixture(scope="module")
def maker(authority: Authority) -> Maker:
    """Makes pairs."""
    return Maker(authority)


class Side:
    """One side of a connection in memory."""

    def __init__(self, context: ssl.SSLContext, session: Any = None, name: str = "") -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = not name
        #: What has come in the handshake, as it came.
        self.received = b""
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server, name or None, session=session
        )

    def step(self) -> bool:
        """Go on with the handshake; whether it is complete."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


def shake(served: Served, client: ssl.SSLContext, name: str, session: Any = None) -> Side:
    """The client's side of a connection that was made."""
    near, far = Side(client, session, name), Side(served.context)
    done = [False, False]
    for _ in range(8):
        done[0] = near.step()
        far.incoming.write(near.outgoing.read())
        done[1] = far.step()
        data = far.outgoing.read()
        near.received += data
        near.incoming.write(data)
    assert done == [True, True]
    # Tickets of TLS 1.3 come behind the handshake.
    far.tls.write(b"x")
    near.incoming.write(far.outgoing.read())
    assert near.tls.read(1) == b"x"
    return near


@pytest.fixture
def client() -> ssl.SSLContext:
    """A client that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def source_of(contexts: TlsContexts, maker: Maker, name: str) -> str | None:
    """The file of the certificate that serves a name."""
    served = contexts.find(name)
    if served is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    found = shake(served, context, name or "none.example").tls.getpeercert(True)
    for pair in maker._made.values():
        if ssl.PEM_cert_to_DER_cert(pair.cert) == found:
            return pair.source
    return "?"


@pytest.mark.parametrize(
    ("default", "name", "source"),
    [
        ("", "a.example", "a.example.pem"),
        ("", "x.b.example", "*.b.example.pem"),
        # Exact names come first.
        ("", "c.b.example", "c.b.example.pem"),
        # A star is one label.
        ("", "x.x.b.example", None),
        ("", "b.example", None),
        ("", "other", None),
        ("", "", None),
        ("a.example", "other.example", "a.example.pem"),
        ("a.example", "", "a.example.pem"),
        ("x.b.example", "", "*.b.example.pem"),
    ],
)
def test_certificate_of_a_name(maker: Maker, default: str, name: str, source: str | None) -> None:
    """By its exact name, then by a wildcard, then the default one; else there is none."""
    pairs = (maker.pair("a.example"), maker.pair("*.b.example"), maker.pair("c.b.example"))
    contexts = TlsContexts()
    contexts.take(Keyring(pairs, default))
    assert source_of(contexts, maker, name) == source


def test_later_end_counts(maker: Maker) -> None:
    """Where a folder holds the old certificate and the new one."""
    old, new = maker.pair("a.example", number=1), maker.pair("a.example", number=2)
    for pairs in ((old, new), (new, old)):
        contexts = TlsContexts()
        contexts.take(Keyring(pairs))
        served = contexts.find("a.example")
        assert served is not None
        assert len(contexts._pairs("a.example")) == 1
        assert contexts._pairs("a.example")[0] is new


@pytest.mark.parametrize(
    ("suites", "kind"), [("ECDHE-ECDSA-AES128-GCM-SHA256", "ec"), ("ECDHE+aRSA+AESGCM", "rsa")]
)  # fmt: skip
def test_client_decides_which_key_is_used(
    maker: Maker, client: ssl.SSLContext, suites: str, kind: str
) -> None:
    """A name may have a pair with a key of each kind."""
    pairs = (maker.pair("a.example"), maker.pair("a.example", rsa=True))
    contexts = TlsContexts()
    contexts.take(Keyring(pairs))
    served = contexts.find("a.example")
    assert served is not None
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suites)
    shown = shake(served, client, "a.example").tls.getpeercert(True)
    (pair,) = [one for one in pairs if ssl.PEM_cert_to_DER_cert(one.cert) == shown]
    assert pair.kind == kind


def test_least_used_context_is_let_go(maker: Maker) -> None:
    """It is made again when it is asked for."""
    pairs = tuple(maker.pair(f"{name}.example") for name in "abc")
    contexts = TlsContexts(at_most=2)
    contexts.take(Keyring(pairs))
    first, second = contexts.find("a.example"), contexts.find("b.example")
    assert contexts.find("a.example") is first
    contexts.find("c.example")
    assert len(contexts) == 2
    assert contexts.find("a.example") is first
    assert contexts.find("b.example") is not second


def test_change_leaves_other_contexts(maker: Maker) -> None:
    """Sessions of certificates that stay go on."""
    a, b = maker.pair("a.example"), maker.pair("b.example")
    contexts = TlsContexts()
    contexts.take(Keyring((a, b)))
    before = [contexts.find("a.example"), contexts.find("b.example")]
    contexts.take(Keyring((maker.pair("a.example", number=1), b)))
    after = [contexts.find("a.example"), contexts.find("b.example")]
    assert after[0] is not before[0]
    assert after[1] is before[1]
    # Another policy, or other terms, concern every handshake.
    required = ClientPolicy("require", a.cert)
    contexts.take(Keyring((a, b), policies=(required,)))
    assert contexts.find("b.example") is not before[1]
    later = contexts.find("b.example")
    contexts.take(Keyring((a, b), policies=(required,), min_version="1.3"))
    assert contexts.find("b.example") is not later
    contexts.take(Keyring((a,)))
    assert contexts.find("b.example") is None


def test_certificates_of_the_store_serve_beside_those_of_files(maker: Maker) -> None:
    contexts = TlsContexts()
    contexts.take(Keyring((maker.pair("a.example"),)))
    a = contexts.find("a.example")
    contexts.take_stored({"b": maker.pair("b.example")})
    assert contexts.find("a.example") is a
    assert contexts.find("b.example") is not None
    contexts.take(Keyring())
    assert contexts.find("a.example") is None
    assert contexts.find("b.example") is not None
    contexts.take_stored({})
    assert contexts.find("b.example") is None


def policies(ca: str) -> tuple[ClientPolicy, ...]:
    """Every kind of policy."""
    return (ClientPolicy(), ClientPolicy("optional", ca), ClientPolicy("require", ca))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_resumes_under_its_own_policy_only(
    maker: Maker, authority: Authority, client: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    """Else a client that has shown nothing at one name would get in at another one that
    requires a certificate (CVE-2025-23419 of nginx)."""
    ca = authority.file.read_text()
    cert, key = authority.issue("resuming", ("client",))
    client.load_cert_chain(cert, key)
    client.minimum_version = client.maximum_version = version
    names = ["none.example", "optional.example", "require.example"]
    # With one certificate for all, to show that the policies are what matters.
    pairs = tuple(
        structs.replace(maker.pair(*names), names=(name,), policy=place)
        for place, name in enumerate(names)
    )
    contexts = TlsContexts()
    contexts.take(Keyring(pairs, policies=policies(ca)))

    def served(name: str) -> Served:
        found = contexts.find(name)
        assert found is not None
        return found

    sessions = {name: shake(served(name), client, name).tls.session for name in names}
    for name in names:
        assert shake(served(name), client, name, sessions[name]).tls.session_reused
    for first, second in permutations(names, 2):
        assert not shake(served(second), client, second, sessions[first]).tls.session_reused


@pytest.mark.parametrize("ours", ["a", "b"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_resumes_in_each_process_under_its_own_policy_only(
    maker: Maker, client: ssl.SSLContext, tmp_path: Path, version: ssl.TLSVersion, ours: str
) -> None:
    """With the same keys: on the same worker, on another one, and after an upgrade.  Each policy
    is tried at each other one, with a client of either CA."""
    authorities = {name: Authority(tmp_path, f"ca-{name}") for name in "ab"}
    cas = {name: authority.file.read_text() for name, authority in authorities.items()}
    known = [ClientPolicy()]
    known += [ClientPolicy(kind, cas[name]) for name in "ab" for kind in KINDS[1:]]
    client.load_cert_chain(*authorities[ours].issue("resuming", ("client",)))
    client.minimum_version = client.maximum_version = version
    names = [f"p{place}.example" for place in range(len(known))]
    pairs = tuple(
        structs.replace(maker.pair("one.example"), names=(name,), policy=place)
        for place, name in enumerate(names)
    )
    keys = TicketKeys(b"current", b"former")
    processes = [TlsContexts() for _ in range(3)]
    for contexts in processes:
        contexts.take(Keyring(pairs, policies=tuple(known)))
        contexts.take_tickets(keys)

    def served(contexts: TlsContexts, name: str) -> Served:
        found = contexts.find(name)
        assert found is not None
        return found

    first = processes[0]
    open_to_us = [name for name in names if first.policy(name).ca in ("", cas[ours])]
    assert len(open_to_us) == 3
    sessions = {name: shake(served(first, name), client, name).tls.session for name in open_to_us}
    for contexts in processes:
        for made_at in open_to_us:
            for name in names:
                if name not in open_to_us:
                    # A full handshake, in which our certificate is refused.
                    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
                        shake(served(contexts, name), client, name, sessions[made_at])
                    continue
                again = shake(served(contexts, name), client, name, sessions[made_at])
                assert again.tls.session_reused == (made_at == name), (made_at, name)
    # Without shared keys, or with others, nothing resumes elsewhere.
    for keys_there in (None, TicketKeys(b"other", b"one")):
        stranger = TlsContexts()
        stranger.take(Keyring(pairs, policies=tuple(known)))
        stranger.take_tickets(keys_there)
        again = shake(served(stranger, names[0]), client, names[0], sessions[names[0]])
        assert not again.tls.session_reused


def test_session_of_a_renewed_certificate_does_not_resume(
    maker: Maker, client: ssl.SSLContext
) -> None:
    """As with nginx, whose sessions know the certificate.  Other certificates do not matter."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    contexts = TlsContexts()
    contexts.take_tickets(TicketKeys(b"current", b"former"))

    def resumes(session: Any = None) -> tuple[bool | None, Any]:
        served = contexts.find("a.example")
        assert served is not None
        near = shake(served, client, "a.example", session).tls
        return near.session_reused, near.session

    contexts.take(Keyring((maker.pair("a.example"),)))
    session = resumes()[1]
    contexts.take(Keyring((maker.pair("b.example"),)))
    contexts.take(Keyring((maker.pair("a.example"), maker.pair("b.example"))))
    assert resumes(session)[0]
    contexts.take(Keyring((maker.pair("a.example", number=1),)))
    assert not resumes(session)[0]


@pytest.mark.parametrize(
    ("suites", "kind"), [("ECDHE-ECDSA-AES128-GCM-SHA256", "ec"), ("ECDHE+aRSA+AESGCM", "rsa")]
)  # fmt: skip
def test_staple_is_that_of_the_certificate(
    maker: Maker, client: ssl.SSLContext, suites: str, kind: str
) -> None:
    """Of a name with two certificates.  It may change, end or go; the context stays."""
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(suites)
    openssl().ask_for_staples(openssl().pointer(client))
    pairs = (maker.pair("a.example"), maker.pair("a.example", rsa=True))
    answers = {"ec": b"answer for the one" * 9, "rsa": b"answer for the other" * 9}
    contexts = TlsContexts()
    contexts.take_tickets(TicketKeys(b"current", b"former"))

    def sent(ends: float, *kinds: str) -> list[str]:
        """The kinds whose answers the client got."""
        staples = {one: answers[one] for one in kinds}
        contexts.take(
            Keyring(
                tuple(
                    structs.replace(pair, staple=staples.get(pair.kind, b""), staple_ends=int(ends))
                    for pair in pairs
                )
            )
        )
        served = contexts.find("a.example")
        assert served is not None
        made.append(served)
        data = shake(served, client, "a.example").received
        return [one for one, answer in answers.items() if answer in data]

    made: list[Served] = []
    later = time.time() + 100
    assert sent(later) == []
    assert sent(later, "ec", "rsa") == [kind]
    assert sent(time.time() - 1, "ec", "rsa") == []
    assert sent(later, kind) == [kind]
    other = "rsa" if kind == "ec" else "ec"
    assert sent(later, other) == []
    assert sent(later) == []
    assert all(one is made[0] for one in made)


def test_process_in_which_openssl_cannot_be_called(
    maker: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It serves; one line each says what it cannot do."""

    def fails() -> OpenSsl:
        raise NoOpenSslError("it is another one")

    monkeypatch.setattr(tls_contexts, "openssl", fails)
    tls_contexts._tell_of_groups.cache_clear()
    contexts = TlsContexts()
    contexts.take(Keyring((maker.pair("a.example"), maker.pair("b.example"))))
    contexts.take_tickets(TicketKeys(b"current", b"former"))
    with logged() as events:
        for name in ("a.example", "b.example"):
            assert contexts.find(name) is not None
    lines = [event["log_format"].format(**event) for event in events]
    assert lines == [
        "keys of TLS may be of OpenSSL's slowest groups, which take tenths of a second:"
        " it is another one",
        "sessions resume in this process only: it is another one",
    ]


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("a.example", True),
        ("x.w.example", True),
        ("x.y.w.example", False),
        ("w.example", False),
        ("stored.example", True),
        # The default serves them, with a certificate that is for others.
        ("b.example", False),
        ("", False),
        # Who asks for an address gets the default.
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
    ],
)
def test_names_that_have_a_certificate(maker: Maker, name: str, has: bool) -> None:
    """Exact or by a wildcard, and never by default alone."""
    contexts = TlsContexts()
    default = maker.pair("a.example", "192.0.2.1", "2001:db8::1")
    other = maker.pair("*.w.example", "192.0.2.2", "2001:db8::2")
    contexts.take(Keyring((default, other), "a.example"))
    contexts.take_stored({"s": maker.pair("stored.example")})
    assert contexts.has(name) == has


def listener(number: int, verify: Verify | None = None) -> ListenerSpec:
    """One with TLS."""
    return ListenerSpec(f"tls:{number}", f"tcp:{number}", "https", True, verify=verify)


@pytest.mark.parametrize("ours", KINDS)
@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("same", [True, False])
def test_stricter_of_two_policies(ours: Verify, theirs: Verify, same: bool) -> None:
    """A client meets both, in either order, or does not get in with a certificate."""
    one = ClientPolicy(ours, "a" if ours != "none" else "")
    other = ClientPolicy(theirs, ("a" if same else "b") if theirs != "none" else "")
    both = stricter(one, other)
    assert both == stricter(other, one)
    assert KINDS.index(both.verify) == max(KINDS.index(ours), KINDS.index(theirs))
    cas = {policy.ca for policy in (one, other) if policy.verify != "none"}
    assert both.ca == (cas.pop() if len(cas) == 1 else "")


def test_listener_has_a_policy_of_its_own(maker: Maker, authority: Authority) -> None:
    """It holds for names without one, also by default and for certificates of the store; at
    others both hold."""
    ca = authority.file.read_text()
    general, own, strict = ClientPolicy(), ClientPolicy("optional", ca), ClientPolicy("require", ca)
    pairs = (maker.pair("a.example", policy=0), maker.pair("*.b.example", policy=1))
    contexts = TlsContexts()
    open_to_all, strictly = listener(1), listener(2, "require")
    contexts.take(
        Keyring(
            pairs,
            "a.example",
            policies=(general, own, strict),
            listeners={strictly.id: 2},
        )
    )
    contexts.take_stored({"s": maker.pair("s.example"), "x.b": maker.pair("x.b.example")})
    for name, policy in [
        ("a.example", general),
        ("s.example", general),
        ("", general),
        ("unknown.example", general),
        ("x.b.example", own),
        ("y.b.example", own),
    ]:
        for one, wanted in [(open_to_all, policy), (strictly, strict), (UNNAMED, policy)]:
            served = contexts.find(name, one)
            assert served is not None
            assert served.policy == contexts.policy(name, one) == wanted
            verify = served.context.verify_mode
            assert verify == ssl.VerifyMode(KINDS.index(wanted.verify))
    assert contexts.find("a.example", open_to_all) is contexts.find("a.example")
    # Sessions may be resumed where nothing else is asked for.
    assert contexts.find("a.example", strictly) is contexts.find("unknown.example", strictly)


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("x.b.example", 1),
        # Upstreams for *.b.example get these, too.
        ("y.x.b.example", 1),
        ("z.y.x.b.example", 1),
        ("b.example", 0),
        ("xb.example", 0),
        # The longest wildcard with a policy counts, and a name of its own before all.
        ("y.x.c.b.example", 2),
        ("x.c.b.example", 2),
        ("x.d.b.example", 0),
        ("y.x.d.b.example", 1),
        ("a.e.b.example", 0),
        ("e.b.example", 1),
        # The certificate is from the store.
        ("s.x.b.example", 1),
        ("s.example", 0),
        # The default's.
        ("other", 0),
        ("", 0),
    ],
)
def test_wildcard_asks_for_all_names_below_it(maker: Maker, name: str, place: int) -> None:
    """Also for those that its certificate is not good for."""
    policies = tuple(ClientPolicy("require", ca) for ca in ("", "one", "two"))
    given = {"a.example": 0, "*.b.example": 1, "*.c.b.example": 2, "*.d.b.example": 0}
    given["a.e.b.example"] = 0
    contexts = TlsContexts()
    pairs = tuple(maker.pair(one, policy=own) for one, own in given.items())
    contexts.take(Keyring(pairs, "a.example", policies=policies))
    contexts.take_stored({one: maker.pair(one) for one in ("s.x.b.example", "s.example")})
    assert contexts.policy(name) == policies[place]
    assert contexts.asks(name) == (place > 0)


def test_policy_of_the_default_gives_way_to_that_of_a_wildcard(maker: Maker) -> None:
    """A name further below is not served to whom only the default lets in."""
    policies = tuple(ClientPolicy("require", ca) for ca in ("", "one", "two"))
    contexts = TlsContexts()
    pairs = (maker.pair("a.example", policy=2), maker.pair("*.b.example", policy=1))
    contexts.take(Keyring(pairs, "a.example", policies=policies))
    for name, place in [("y.x.b.example", 1), ("other", 2), ("", 2)]:
        assert contexts.policy(name) == policies[place]
    assert not contexts.asks("other")


@pytest.mark.parametrize("verify", KINDS)
def test_listener_of_which_nothing_is_known(
    maker: Maker, authority: Authority, verify: Verify
) -> None:
    """It lets nobody in whom its own CA would not have let in."""
    policy = ClientPolicy("require", authority.file.read_text())
    contexts = TlsContexts()
    contexts.take(Keyring((maker.pair("a.example"),), policies=(policy,)))
    found = contexts.policy("a.example", listener(1, verify))
    assert found == ClientPolicy(verify)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("keys", [None, TicketKeys(b"current", b"former")])
def test_session_does_not_resume_at_a_listener_with_another_policy(
    maker: Maker, authority: Authority, client: ssl.SSLContext, version: ssl.TLSVersion,
    keys: TicketKeys | None,
) -> None:  # fmt: skip
    """Of the same name: else whoever comes in at one listener comes in at all.  Also where
    processes share sessions."""
    ca = authority.file.read_text()
    client.load_cert_chain(*authority.issue("resuming", ("client",)))
    client.minimum_version = client.maximum_version = version
    contexts = TlsContexts()
    listeners = {verify: listener(place, verify) for place, verify in enumerate(KINDS)}
    contexts.take(
        Keyring(
            (maker.pair("a.example"),),
            policies=(ClientPolicy(), *policies(ca)),
            listeners={one.id: 1 + place for place, one in enumerate(listeners.values())},
        )
    )
    contexts.take_tickets(keys)

    def served(verify: Verify) -> Served:
        found = contexts.find("a.example", listeners[verify])
        assert found is not None
        return found

    sessions = {kind: shake(served(kind), client, "a.example").tls.session for kind in KINDS}
    for kind in KINDS:
        assert shake(served(kind), client, "a.example", sessions[kind]).tls.session_reused
    for first, second in permutations(KINDS, 2):
        again = shake(served(second), client, "a.example", sessions[first])
        assert not again.tls.session_reused


def test_log_of_failures_is_bounded() -> None:
    """Strangers cause them."""
    now = [100.0]
    contexts = TlsContexts(seconds=lambda: now[0])
    with logged() as events:
        for number in range(5):
            contexts.failed("tls:1", f"192.0.2.{number}", "it is no TLS")
        now[0] += 10
        contexts.failed("tls:1", "192.0.2.9", "no")
    lines = [event["log_format"].format(**event) for event in events]
    assert lines == [
        "tls:1: a TLS handshake with 192.0.2.0 failed: it is no TLS",
        "tls:1: a TLS handshake with 192.0.2.9 failed: no (and 4 others since the line before)",
    ]


def test_no_text_shows_a_key(maker: Maker) -> None:
    """Neither that of a pair nor that of what holds pairs."""
    keyring = Keyring((maker.pair("a.example"),))
    assert repr(keyring.pairs[0]) == "<Pair a.example.pem>"
    assert "PRIVATE" not in repr(keyring)


def test_pair_leaves_no_file_behind(maker: Maker, tmp_path: Path) -> None:
    """It is loaded from memory."""
    before = _descriptors()
    contexts = TlsContexts()
    contexts.take(Keyring((maker.pair("a.example"),)))
    contexts.find("a.example")
    assert _descriptors() == before


def _descriptors() -> list[str]:
    def names() -> Iterator[str]:
        for path in Path("/proc/self/fd").iterdir():
            try:
                yield str(path.readlink())
            except FileNotFoundError:
                pass

    return sorted(name for name in names() if "memfd" in name)


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
@pytest.mark.parametrize(
    ("group", "serves"),
    [("X25519", True), ("P-256", True), ("P-384", True), ("P-521", False), ("ffdhe8192", False)],
)
def test_groups_that_a_client_may_use(
    maker: Maker, client: ssl.SSLContext, version: str, group: str, serves: bool
) -> None:
    """None that makes the server calculate for a tenth of a second."""
    contexts = TlsContexts()
    contexts.take(Keyring((maker.pair("a.example", rsa=True),)))
    served = contexts.find("a.example")
    assert served is not None
    openssl().set_groups(openssl().pointer(client), group.encode())
    client.maximum_version = ssl.TLSVersion[version]
    if serves:
        assert shake(served, client, "a.example")
    else:
        with pytest.raises(ssl.SSLError, match=r"(?i)no.shared|no.suitable"):
            shake(served, client, "a.example")
