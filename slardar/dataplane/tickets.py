"""The keys with which a context seals session tickets, made from what all processes share.

Each context has keys of its own: they follow from the shared bytes and from everything in which
two contexts differ.  So a session resumes in each process that has the same bytes, and at no
other policy, certificate, or setting of TLS (nginx's CVE-2025-23419).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from slardar.dataplane.openssl import KEYS_SIZE
from slardar.model.tls import ClientPolicy, Keyring, Pair

__all__ = ["context_keys", "identity_of"]


def identity_of(keyring: Keyring, policy: ClientPolicy, pairs: Iterable[Pair]) -> bytes:
    """What tells a context from others with another content."""
    certificates = sorted(pair.cert for pair in pairs)
    digest = hashlib.sha256()
    for text in (keyring.min_version, keyring.ciphers, policy.verify, policy.ca, *certificates):
        data = text.encode()
        # With its length: no two lists of texts look the same.
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.digest()


def context_keys(shared: bytes, identity: bytes) -> bytes:
    """The keys of a context, as OpenSSL takes them: a name, which tickets show, and two keys.

    This is HKDF-Expand (RFC 5869 2.3) with SHA-256; ``shared`` is random already.
    """
    made = block = b""
    number = 0
    while len(made) < KEYS_SIZE:
        number += 1
        block = hmac.digest(
            shared, block + b"slardar ticket " + identity + bytes((number,)), "sha256"
        )
        made += block
    return made[:KEYS_SIZE]
