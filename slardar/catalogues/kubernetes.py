"""Services in Kubernetes: the ready endpoints in the EndpointSlices of a service are the servers.

Slices are listed once and then watched.  They are listed anew when the cluster has forgotten the
version that is known (410), and when a watch was silent or broke off.
"""

# Twisted's TLS has few types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from msgspec import Raw, Struct
from twisted.internet import defer, ssl
from twisted.web.client import Agent, BrowserLikePolicyForHTTPS

from slardar.catalogues.base import Catalogue, Failed, Report
from slardar.catalogues.endpoint_slices import Meta, Slice, SliceList, listing_of
from slardar.catalogues.http import TIMEOUT, AskError, Ended, Source, decoded
from slardar.model.kubernetes_query import KubernetesQuery
from slardar.model.names import host_port
from slardar.model.service import Origin
from slardar.plain_files import read_regular
from slardar.quiet import QuietPool
from slardar.repeated import Lookups, Schedule

__all__ = ["ACCOUNT", "MARGIN", "WATCH", "KubernetesCatalogue"]

#: Where a pod has the token and the CA of its service account.
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Seconds after which the cluster is asked to end a watch, and those that it may be late.
WATCH: Final = 60.0
MARGIN: Final = 10.0
#: Seconds that a good watch lasts at least, and for which a list holds.
_SHORTEST: Final = 1.0
#: Bytes of a file of the account that are read: a CA's, or a token.
_MAX_FILE: Final = 1 << 20
#: HTTP's status for a version that was forgotten.
_GONE: Final = 410
_CERTIFICATE: Final = re.compile(
    "-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)


class _Event(Struct):
    """A line of a watch."""

    type: str
    object: Raw


class _Object(Struct):
    metadata: Meta


class _Status(Struct):
    code: int = 0
    message: str = ""


class _Followed:
    """What is known of one service."""

    def __init__(self, origin: Origin, told: Callable[[Report], None]) -> None:
        self.query = KubernetesQuery.of(origin)
        self.told = told
        self.schedule = Schedule()
        self.slices: dict[str, Slice] = {}
        #: The version of what is known; empty: slices are to be listed.
        self.version = ""
        #: When they were, in the reactor's seconds.
        self.listed_at = 0.0

    def tell(self) -> None:
        """Tell what is known."""
        self.told(listing_of(self.slices.values(), self.query.port))

    def take(self, line: bytes) -> None:
        """Take a line of a watch.  Raises AskError."""
        event = decoded(line, _Event)
        if event.type == "ERROR":
            status = decoded(event.object, _Status)
            raise AskError(f"the watch ends: {status.message}", status.code)
        meta = decoded(event.object, _Object).metadata
        self.version = meta.resource_version
        if event.type in ("ADDED", "MODIFIED"):
            self.slices[meta.name] = decoded(event.object, Slice)
        elif event.type == "DELETED":
            self.slices.pop(meta.name, None)
        else:
            # A bookmark, which says the version only.
            return
        self.tell()


class KubernetesCatalogue(Catalogue):
    """See the module.  ``draw()`` is a number from 0 to 1."""

    def __init__(
        self,
        reactor: Any,
        account: Path = ACCOUNT,
        environ: Mapping[str, str] = os.environ,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._account = account
        self._environ = environ
        self._draw = draw
        self._followed: dict[str, _Followed] = {}
        self._rounds = Lookups(reactor, self._begin, self._ended, str, lambda: False)

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """See :meth:`Catalogue.follow`."""
        key = " ".join(origin)
        self._followed[key] = _Followed(origin, told)
        self._rounds.begin(key)

    def unfollow(self, origin: Origin) -> None:
        """See :meth:`Catalogue.unfollow`."""
        key = " ".join(origin)
        del self._followed[key]
        self._rounds.end(key)

    def stop(self) -> None:
        """See :meth:`Catalogue.stop`."""
        self._rounds.stop()
        self._followed = {}

    def _begin(self, key: str) -> defer.Deferred[str]:
        return defer.Deferred.fromCoroutine(self._round(self._followed[key]))

    def _ended(self, key: str, reason: str) -> float:
        """A round has ended.  Returns the seconds until the next one."""
        followed = self._followed[key]
        if not reason:
            return 0.0
        followed.version = ""
        followed.told(Failed(reason))
        return followed.schedule.bad(reason) * (1.0 - 0.5 * self._draw())

    async def _round(self, followed: _Followed) -> str:
        """List the slices if they are not known, and watch them for a while.  Returns why that is
        not possible; empty if the next round may come at once."""
        try:
            source, url, headers = self._find(followed)
            if not followed.version:
                found = decoded(await source.get(url, headers), SliceList)
                followed.slices = {one.metadata.name: one for one in found.items or ()}
                followed.version = found.metadata.resource_version
                followed.listed_at = self._reactor.seconds()
                followed.tell()
            await self._watch(followed, source, url, headers)
        except AskError as error:
            if error.status == _GONE and self._has_lasted(followed.listed_at):
                followed.version = ""
                return ""
            return f"{followed.query.service}: {error}"
        return ""

    async def _watch(
        self, followed: _Followed, source: Source, url: str, headers: Mapping[str, str]
    ) -> None:
        seconds = int(WATCH * (1.0 - 0.1 * self._draw()))
        asked = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": followed.version,
            "timeoutSeconds": str(seconds),
        }
        watch = await source.open(f"{url}&{urlencode(asked)}", headers)
        begun = self._reactor.seconds()
        try:
            # What is known holds still, and the service may have been thought to be away.
            followed.tell()
            while (line := await watch.line(begun + seconds + MARGIN)) is not None:
                followed.take(line)
        except Ended:
            if not self._has_lasted(begun):
                raise AskError("the watch ends at once") from None
            followed.schedule.good(0, 0)
            return
        finally:
            watch.close()
        # The connection may be dead, and changes may be lost.
        followed.version = ""

    def _has_lasted(self, begun: float) -> bool:
        """Whether something that has begun then may begin anew without a pause."""
        return bool(self._reactor.seconds() - begun >= _SHORTEST)

    def _find(self, followed: _Followed) -> tuple[Source, str, dict[str, str]]:
        """What asks the cluster, the URL of the slices, and headers.  Raises AskError."""
        base, headers = followed.query.url, {}
        if not base:
            host = self._environ.get("KUBERNETES_SERVICE_HOST")
            if not host:
                raise AskError("no url, and no KUBERNETES_SERVICE_HOST, as a pod has it")
            port = self._environ.get("KUBERNETES_SERVICE_PORT", "443")
            base = f"https://{host_port(host, port)}"
            # For this cluster alone: a service may be made by somebody who must not see it.  Read
            # each time, for it is replaced every hour.
            token = self._read("token").strip()
            if token:
                headers["authorization"] = f"Bearer {token}"
        trusted = _trust(self._read("ca.crt")) if base.startswith("https:") else None
        policy = BrowserLikePolicyForHTTPS(trusted)
        pool = QuietPool(self._reactor, persistent=False)
        agent = Agent(self._reactor, policy, connectTimeout=TIMEOUT, pool=pool)
        namespace, _, name = followed.query.service.partition("/")
        place = f"{base}/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        selector = urlencode({"labelSelector": f"kubernetes.io/service-name={name}"})
        return Source(self._reactor, agent), f"{place}?{selector}", headers

    def _read(self, name: str) -> str:
        """A file of the service account; empty if there is none."""
        try:
            return read_regular(str(self._account / name), _MAX_FILE)[0].decode("ascii")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise AskError(f"{self._account / name}: {error}") from None


def _trust(text: str) -> Any:
    """Trust in these certificates; ``None``, the system's, if there are none."""
    found = _CERTIFICATE.findall(text)
    try:
        return ssl.trustRootFromCertificates(map(ssl.Certificate.loadPEM, found)) if found else None
    except Exception:  # OpenSSL's errors quote the file.
        raise AskError("ca.crt of the service account is no certificate") from None
