"""The calls to a CA: certbot's library signs and sends them, and what comes back is checked here.

Every call blocks, so it belongs into a thread.  A CA is not trusted: an answer has a size and a
time, URLs lead to the CA's own service, redirects are not followed, and every value has a type.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
import requests.adapters
from acme import client, errors, messages
from josepy.interfaces import JSONDeSerializable
from josepy.jwa import ES256
from josepy.jwk import JWKEC
from msgspec import Struct, field

from slardar import __version__
from slardar.acme.keys import base64url
from slardar.errors import printable

__all__ = ["Authorization", "Ca", "CaError", "Challenge", "CaOrder"]

T = TypeVar("T")

#: Bytes of an answer, at most.  Chains of certificates are the longest ones: some 10 KiB.
_MAX_ANSWER: Final = 1 << 18
#: Seconds for the pieces of an answer to come one after the other, and for all of it.
_PIECE: Final = 15.0
_WHOLE: Final = 30.0
#: Times that a question is put again because the CA wanted another nonce (RFC 8555 6.5).
_NONCES: Final = 8
#: Characters of what a CA says of an error.
_MAX_DETAIL: Final = 300
#: The longest time that a ``Retry-After`` may ask for, in seconds, before others look at it.
_MAX_RETRY: Final = 366 * 86400.0


class CaError(Exception):
    """A call has failed; the text is one line, and tells what the CA says.

    ``kind`` is the type of the CA's error, such as ``rateLimited``, or empty.  ``retry_after`` are
    the seconds that the CA asks to wait, 0 if it does not.
    """

    def __init__(self, message: str, kind: str = "", retry_after: float = 0.0) -> None:
        super().__init__(printable(" ".join(message.split())))
        self.kind = kind
        self.retry_after = retry_after


class _Meta(Struct):
    needs_external: bool = field(name="externalAccountRequired", default=False)


class _Directory(Struct, rename="camel"):
    new_nonce: str
    new_account: str
    new_order: str
    renewal_info: str | None = None
    meta: _Meta | None = None


class _Problem(Struct):
    type: str = ""
    detail: str = ""

    def __str__(self) -> str:
        kind = self.type.rpartition(":")[2]
        return f"{kind}: {self.detail[:_MAX_DETAIL]}" if self.detail else kind


class _Identifier(Struct):
    type: str
    value: str


class CaOrder(Struct):
    """An order, as the CA has it."""

    status: str
    finalize: str = ""
    authorizations: list[str] = []
    certificate: str | None = None
    error: _Problem | None = None
    #: The URL of the order itself.
    url: str = ""
    #: Seconds after which the CA wants to be asked again, or 0.
    retry_after: float = 0.0


class Challenge(Struct):
    """A way to show a CA whose a name is."""

    type: str
    url: str = ""
    token: str = ""
    status: str = ""
    error: _Problem | None = None


class Authorization(Struct):
    """What a CA knows of a name and us."""

    status: str
    identifier: _Identifier
    challenges: list[Challenge] = []
    retry_after: float = 0.0


class _Window(Struct):
    start: datetime
    end: datetime


class _RenewalInfo(Struct, rename="camel"):
    suggested_window: _Window


class _Body(JSONDeSerializable):
    """What is sent, as it is."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def to_partial_json(self) -> dict[str, Any]:
        return dict(self._values)

    @classmethod
    def from_json(cls, jobj: Any) -> _Body:
        return cls(jobj)


class _Adapter(requests.adapters.HTTPAdapter):
    """Connections to a CA of one's own, whose certificate may lack what RFC 5280 wants of CAs.

    From Python 3.13 on, the default of ``requests`` refuses such a CA.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        # requests has the CAs loaded into it, with each new connection.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        super().init_poolmanager(*args, ssl_context=context, **kwargs)


class _Network(client.ClientNetwork):
    """certbot's network, with bounds.  ``origin`` is the only place where it goes."""

    def __init__(self, origin: tuple[str, int], key: Any, verify: Any) -> None:
        super().__init__(key, alg=ES256, verify_ssl=verify, user_agent=f"slardar/{__version__}")
        if verify is not True:
            self.session.mount("https://", _Adapter())
        self._origin = origin
        #: What the last answer asked to wait, in seconds.
        self.retry_after = 0.0

    def _send_request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        if _origin(url) != self._origin:
            raise CaError("the CA names a URL that is not on its own server")
        headers = {"Accept-Encoding": "identity", "User-Agent": self.user_agent}
        headers.update(kwargs.get("headers", {}))
        self.retry_after = 0.0
        until = time.monotonic() + _WHOLE
        response = self.session.request(
            method,
            url,
            data=kwargs.get("data"),
            headers=headers,
            timeout=_PIECE,
            verify=self.verify_ssl,
            allow_redirects=False,
            stream=True,
        )
        try:
            content = bytearray()
            for piece in response.iter_content(16384):
                content += piece
                if len(content) > _MAX_ANSWER:
                    raise CaError(f"the CA's answer has more than {_MAX_ANSWER} bytes")
                if time.monotonic() > until:
                    raise CaError("the CA's answer takes too long")
        finally:
            response.close()
        if 300 <= response.status_code < 400:
            raise CaError("the CA answers with a redirect, which is not followed")
        # Where requests keeps what it has read itself.
        response._content = bytes(content)
        response._content_consumed = True
        response.encoding = "utf-8"
        self.retry_after = _seconds(response.headers.get("Retry-After", ""))
        return response

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for left in reversed(range(_NONCES)):
            try:
                return self._post_once(*args, **kwargs)
            except messages.Error as error:
                if left == 0 or _kind(error) != "badNonce":
                    raise
        raise AssertionError


class Ca:
    """A CA with one account.

    ``directory`` is the URL of its directory, ``ca`` the file of the CAs for its own certificate
    (``None``: those that are known to everybody), ``key`` the account's key in PEM, and ``uri`` the
    account, if it is there.  Every method blocks, as a rule for a minute at most, raises CaError,
    and is called by one thread at a time.
    """

    def __init__(self, directory: str, ca: str | None, key: str = "", uri: str = "") -> None:
        self._url = directory
        loaded = JWKEC.load(key.encode()) if key else None
        self._thumbprint = "" if loaded is None else base64url(loaded.thumbprint())
        self._network = _Network(_origin(directory), loaded, ca or True)
        if uri:
            self._network.account = _account(uri)
        self._known: _Directory | None = None

    def close(self) -> None:
        """Close the connections; may be called in any thread."""
        self._network.session.close()

    def key_authorization(self, token: str) -> str:
        """What a challenge with this token is answered (RFC 8555 8.1)."""
        return f"{token}.{self._thumbprint}"

    def register(self, email: str) -> str:
        """Make the account of the key, or find the one there is.  Returns its URL."""
        with self._told("the account"):
            directory = self._directory()
            if directory.meta is not None and directory.meta.needs_external:
                raise CaError("the CA wants an account that was made elsewhere")
            contact = [f"mailto:{email}"] if email else []
            self._network.account = None
            response = self._post(
                directory.new_account, {"termsOfServiceAgreed": True, "contact": contact}
            )
            uri = str(response.headers.get("Location", ""))
            if _origin(uri) != _origin(self._url):
                raise CaError("the CA does not say where the account is")
            self._network.account = _account(uri)
            if response.status_code == 200:
                # It was there before, perhaps with another address.
                self._post(uri, {"contact": contact})
            return uri

    def order(self, name: str, replaces: str = "") -> CaOrder:
        """Order a certificate for a host; ``replaces`` is the id of the one before."""
        with self._told("the order"):
            directory = self._directory()
            body: dict[str, Any] = {"identifiers": [{"type": "dns", "value": name}]}
            if replaces and directory.renewal_info:
                body["replaces"] = replaces
            try:
                response = self._post(directory.new_order, body)
            except (messages.Error, errors.ConflictError) as error:
                if "replaces" not in body or _kind(error) in ("rateLimited", "badNonce"):
                    raise
                # The one before is of another CA or account, or was replaced already.
                del body["replaces"]
                response = self._post(directory.new_order, body)
            found = self._order(response)
            found.url = str(response.headers.get("Location", ""))
            if len(found.authorizations) != 1:
                raise CaError("the CA wants more than one name to be shown")
            return found

    def look(self, order: CaOrder) -> CaOrder:
        """The order as it is now."""
        with self._told("the order"):
            found = self._order(self._post(order.url, None))
            found.url = order.url
            return found

    def authorization(self, url: str, name: str) -> Authorization:
        """What the CA knows of a host."""
        with self._told("the authorization"):
            found = self._read(self._post(url, None), Authorization)
            if found.identifier.value.lower() != name:
                raise CaError("the CA asks for another name")
            found.retry_after = self._network.retry_after
            return found

    def begin(self, challenge: Challenge) -> None:
        """Tell the CA that a challenge is answered from now on."""
        with self._told("the challenge"):
            self._post(challenge.url, {})

    def finalize(self, order: CaOrder, request: bytes) -> None:
        """Send the request for the certificate, in DER."""
        with self._told("the request for the certificate"):
            self._post(order.finalize, {"csr": base64url(request)})

    def download(self, order: CaOrder) -> str:
        """The certificate and those that lead to the CA, in PEM."""
        with self._told("the certificate"):
            return self._post(order.certificate or "", None).text

    def window(self, identifier: str) -> tuple[float, float, float] | None:
        """From when until when the CA suggests to renew a certificate (RFC 9773), in epoch seconds,
        and the seconds after which it wants to be asked again, or 0.

        ``None`` if the CA suggests nothing for any certificate.
        """
        with self._told("the time of renewal"):
            base = self._directory().renewal_info
            if not base:
                return None
            response = self._network.get(f"{base.rstrip('/')}/{identifier}")
            found = self._read(response, _RenewalInfo).suggested_window
            begins, ends = (
                one.replace(tzinfo=one.tzinfo or timezone.utc).timestamp()
                for one in (found.start, found.end)
            )
            if begins > ends:
                raise CaError("the time of renewal ends before it begins")
            return begins, ends, self._network.retry_after

    # How it is done.

    def _directory(self) -> _Directory:
        if self._known is None:
            self._known = self._read(self._network.get(self._url), _Directory)
        return self._known

    def _post(self, url: str, body: Mapping[str, Any] | None) -> requests.Response:
        payload = None if body is None else _Body(body)
        return self._network.post(url, payload, new_nonce_url=self._directory().new_nonce)

    def _order(self, response: requests.Response) -> CaOrder:
        found = self._read(response, CaOrder)
        found.retry_after = self._network.retry_after
        return found

    def _read(self, response: requests.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CaError(f"the CA's answer cannot be read: {error}") from None

    @contextmanager
    def _told(self, about: str) -> Iterator[None]:
        """Tells in one way what has failed, whatever it is."""
        try:
            yield
        except CaError as error:
            raise CaError(f"{about}: {error}", error.kind, self._network.retry_after) from None
        except messages.Error as error:
            kind = _kind(error)
            said = _Problem(kind, str(error.detail or ""))
            raise CaError(f"{about}: {said}", kind, self._network.retry_after) from None
        except requests.RequestException as error:
            raise CaError(f"{about}: {_reason(error)}", "", self._network.retry_after) from None
        except errors.ClientError as error:
            answer = error.args[0] if error.args else None
            if isinstance(answer, requests.Response):
                error = f"the CA answers with the status {answer.status_code}"  # type: ignore[assignment]
            raise CaError(
                f"{about}: {error}"[:_MAX_DETAIL], "", self._network.retry_after
            ) from None
        except Exception as error:
            # An answer of a CA may be anything, and the library has many errors for it.
            text = f"{type(error).__name__}: {error}"[:_MAX_DETAIL]
            raise CaError(f"{about}: {text}", "", self._network.retry_after) from None


def _origin(url: str) -> tuple[str, int]:
    """The host and the port of a URL with HTTPS."""
    try:
        parts = urlsplit(url)
        port = parts.port or 443
    except ValueError:
        raise CaError("the CA names a URL that cannot be read") from None
    if parts.scheme != "https" or not parts.hostname or parts.username is not None:
        raise CaError("the CA names a URL without HTTPS")
    return parts.hostname, port


def _account(uri: str) -> messages.RegistrationResource:
    """What the library calls an account."""
    return messages.RegistrationResource(body=messages.Registration(), uri=uri)


def _kind(error: Exception) -> str:
    """The type of a CA's error, without the words that all types begin with."""
    return str(getattr(error, "typ", "") or "").rpartition(":")[2][:64]


def _seconds(text: str) -> float:
    """The seconds of a ``Retry-After`` (RFC 9110 10.2.3); 0 for none, and for nonsense."""
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), _MAX_RETRY)
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:
            when = when.replace(tzinfo=timezone.utc)
        return min(max(0.0, when.timestamp() - time.time()), _MAX_RETRY)
    except (TypeError, ValueError, IndexError, OverflowError):
        return 0.0


def _reason(error: BaseException) -> str:
    """Why a connection has failed: what the innermost error says."""
    inner: Any = error
    seen = 0
    while seen < 8:
        seen += 1
        # urllib3 has its errors' causes in three places.
        places = (getattr(inner, "reason", None), *inner.args, inner.__cause__)
        following = next((one for one in places if isinstance(one, BaseException)), None)
        if following is None:
            break
        inner = following
    verify = getattr(inner, "verify_message", "")
    text = verify or getattr(inner, "strerror", None) or f"{inner}" or type(inner).__name__
    return f"the CA cannot be reached: {text}"[:_MAX_DETAIL]
