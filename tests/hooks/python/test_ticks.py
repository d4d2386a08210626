"""A tick of the budget's timer ends a call of a hook, whatever function the tick interrupts.

A function that ticks pass over lets a hook run on after its budget: a hook that calls such a
function without end is most of the time in it.
"""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

import pytest

from slardar.hooks import budget as budgets
from slardar.hooks.objects import READABLE
from slardar.hooks.tls import ClientCertificate, HookTls
from tests.hooks.python import loading
from tests.hooks.python.loading import Hooks, request, response

#: What a hook may write.  Compiled modules have no frames, and nothing is found in them.
CALLS = (
    "request.client, request.scheme, request.tls, request.client_cert, request.context",
    "request.method = request.method.lower().upper()",
    "request.host = 'a.example'",
    "request.host = '[::1]'",
    "request.headers['Host'] = 'b.example:81'",
    "request.uri",
    "request.path = request.path + '/x'",
    "request.query_string = request.query_string + 'a'",
    "request.body = request.body + b'a'",
    "request.body_too_large",
    "request.upstream = request.upstream",
    "request.hash_key = 'a'",
    "request.cluster_key = ['a', 'b']",
    "request.cookies",
    "request.reject(403, 'a')",
    "request.respond(200, 'a', {'A': 'b'})",
    "request.redirect('/b?c')",
    "request.exit(errno.OK)",
    "request.headers.get('Accept')",
    "request.headers.get_all('X-Two')",
    "request.headers.items(), request.headers.keys(), request.headers.values()",
    "request.headers.set('A', ['b', 'c'])",
    "request.headers.add('X-Two', 'b')",
    "request.headers.setdefault('A', 'b')",
    "request.headers.remove('X-Two')",
    "request.headers.pop('X-Two')",
    "request.headers.update({'A': 'b', 'C': 'd'})",
    "request.headers['X-Two'] = 'b'",
    "del request.headers['X-Two']",
    "'X-Two' in request.headers, len(request.headers), list(request.headers)",
    "request.query.get('x'), request.query.get_all('x'), request.query.keys()",
    "request.query.items(), request.query.values(), request.query['x']",
    "request.query.set('x', 'y')",
    "request.query.add('x', 'y')",
    "request.query.remove('x')",
    "request.query['x'] = 'y'",
    "del request.query['x']",
    "'x' in request.query, len(request.query), list(request.query)",
    "errno.from_code(403), errno.make(40301001, 'a')",
    "errno.OK.code, errno.OK.httpcode, errno.OK.msg",
    "settings['myargs'], settings.number, settings.get('on'), 'on' in settings",
    "re.compile('a{1,3}b|[a-z]+').search('aab')",
    "re.sub('a', lambda found: found[0], 'aaa'), re.split('a', 'bab'), re.findall('a', 'aa')",
    "hashlib.sha256(b'a').hexdigest(), hashlib.new('sha1', b'a')",
    "hmac.new(b'a', b'b', 'sha256').hexdigest()",
    "json.loads(json.dumps({'a': [1, 2]}))",
    "base64.b64decode(base64.b64encode(b'a'))",
    "ipaddress.ip_address('::1') in ipaddress.ip_network('::/8')",
    "random.random(), random.choice('abc')",
    "sorted([3, 1, 2], key=lambda one: -one), max([1, 2]), sum([1, 2])",
    "'a b'.split(), 'a'.encode(), f'{1:>5}', [1] * 3",
)
RESPONSES = (
    "response.status = 404",
    "response.error",
    "response.headers.get('Server')",
    "response.headers['Server'] = 'a'",
    "response.headers.add('A', 'b')",
    "del response.headers['Server']",
)
#: The judge of heads is shared with the data plane.  A method is judged once, in microseconds.
NOT_INTERRUPTED = ("slardar.http1.heads.__init__", "slardar.http1.heads.request")
MODULES = ("base64", "hashlib", "hmac", "ipaddress", "json", "random", "re")


def passed_over(call: Any) -> list[str]:
    """Where a tick would have passed without effect while a hook ran, in all of its calls."""
    places = set()

    def look(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and budgets._call.running and not budgets._may_raise(frame):
            place = frame
            while place.f_back is not None and not budgets._may_raise(place.f_back):
                place = place.f_back
            # In the call itself nothing of the hook has begun.
            if place.f_back is not None:
                places.add(f"{place.f_globals['__name__']}.{place.f_code.co_name}")

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(before)
    return sorted(places.difference(NOT_INTERRUPTED))


@pytest.fixture
def patient() -> Any:
    """Hooks that no tick meets."""
    hooks = Hooks(60.0)
    yield hooks
    hooks.close()


def source(head: str, line: str) -> str:
    imports = "".join(f"import {module}\n" for module in MODULES if f"{module}." in line)
    return f"{imports}{head}\n    {line}\n"


@pytest.mark.parametrize("line", CALLS)
def test_request(patient: Hooks, line: str) -> None:
    """A tick ends the call wherever it comes while a hook works with a request."""
    script = patient.load(source("def on_request(request):", line))
    assert passed_over(lambda: script.on_request(request())) == []


@pytest.mark.parametrize("line", RESPONSES)
def test_response(patient: Hooks, line: str) -> None:
    """The same holds for a reply."""
    script = patient.load(source("def on_response(request, response):", line))
    assert passed_over(lambda: script.on_response(request(), response())) == []


def test_table_has_every_name() -> None:
    """Each attribute that hooks may read stands in a line above.

    What they see of TLS does not: it is made once for a connection.
    """
    words = set(re.findall(r"\w+", " ".join((*CALLS, *RESPONSES))))
    for kind in set(READABLE) - {HookTls, ClientCertificate}:
        assert set(READABLE[kind]) - words == set(), kind


def test_log_is_passed_over(patient: Hooks) -> None:
    """A line of the log is written to its end, since others share the log."""
    script = patient.load("def on_request(request):\n    log.info('a')\n")
    assert passed_over(lambda: script.on_request(request())) == [f"{loading.__name__}.<lambda>"]
