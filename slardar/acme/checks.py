"""What is wrong with ``tls.acme``, beyond what its keys say themselves."""

from __future__ import annotations

import importlib.util
import ssl

from slardar.config import Settings

__all__ = ["problems_of_acme"]


def problems_of_acme(settings: Settings) -> list[str]:
    """A line for each reason why no certificate could be got.  It reads a file, so it blocks."""
    acme = settings.tls.acme
    if acme is None:
        return []
    problems = []
    if importlib.util.find_spec("acme") is None:
        problems.append("tls.acme: this needs the package acme: pip install 'txslardar[acme]'")
    if settings.store.partition(":")[0] == "memory":
        problems.append(
            "tls.acme: expected a store that keeps, for a CA signs only so many certificates of a"
            " name: memory: forgets them"
        )
    if acme.ca is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(acme.ca)
        except ssl.SSLError:
            problems.append(f"tls.acme.ca: expected certificates in PEM in {acme.ca}")
        except OSError as error:
            problems.append(f"tls.acme.ca: cannot read {acme.ca}: {error.strerror}")
    return problems
