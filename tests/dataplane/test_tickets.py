"""Keys of tickets: the same for the same context in each process, others for any other one."""

from __future__ import annotations

from itertools import combinations

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from slardar.dataplane.openssl import KEYS_SIZE, NAME_SIZE
from slardar.dataplane.tickets import context_keys, identity_of
from slardar.model.tls import ClientPolicy, Keyring, Pair


def pair(cert: str, key: str = "k", source: str = "s") -> Pair:
    """A pair of which only the texts matter."""
    return Pair(source, cert, key, ("a",), "ec", 0)


def test_keys_are_those_of_hkdf() -> None:
    """RFC 5869, as another program has it."""
    shared, identity = bytes(range(32)), bytes(32)
    expected = HKDFExpand(hashes.SHA256(), KEYS_SIZE, b"slardar ticket " + identity)
    assert context_keys(shared, identity) == expected.derive(shared)


def test_whatever_tells_contexts_apart_gives_other_keys() -> None:
    """Each part of what a context is made of, and where one text ends and the next begins."""
    ring = Keyring()
    identities = [
        identity_of(ring, ClientPolicy(), [pair("one")]),
        identity_of(ring, ClientPolicy(), [pair("two")]),
        identity_of(ring, ClientPolicy(), [pair("one"), pair("two")]),
        identity_of(ring, ClientPolicy(), [pair("onetwo")]),
        identity_of(ring, ClientPolicy("optional", "a"), [pair("one")]),
        identity_of(ring, ClientPolicy("require", "a"), [pair("one")]),
        identity_of(ring, ClientPolicy("require", "b"), [pair("one")]),
        identity_of(ring, ClientPolicy("require", ""), [pair("aone")]),
        identity_of(Keyring(min_version="1.3"), ClientPolicy(), [pair("one")]),
        identity_of(Keyring(ciphers="AES128"), ClientPolicy(), [pair("one")]),
    ]
    made = [context_keys(bytes(32), identity) for identity in identities]
    made.append(context_keys(bytes(31) + b"\x01", identities[0]))
    for one, other in combinations(made, 2):
        # The name, which is seen, and both keys.
        for part in (slice(NAME_SIZE), slice(NAME_SIZE, 48), slice(48, KEYS_SIZE)):
            assert one[part] != other[part]


def test_order_and_place_do_not_matter() -> None:
    """A worker that began later may know pairs in another order, and from elsewhere."""
    one, two = pair("one"), pair("two", source="other")
    known = identity_of(Keyring(), ClientPolicy(), [one, two])
    assert known == identity_of(Keyring(default="x"), ClientPolicy(), [two, one])
    assert known == identity_of(Keyring(), ClientPolicy(), [pair("two"), one])
