"""What the modules for hooks compute, and what they refuse."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import re
import time
import urllib.parse
from typing import Any

import pytest

from slardar.hooks.script import HookFailure
from tests.hooks.python.loading import Hooks

IMPORTS = (
    "import base64, hashlib, hmac, ipaddress, json, math, random, re, time\nimport urllib.parse\n"
)
#: Expressions that mean the same with Python's own modules.
SAME = [
    "re.search('b+', 'abbc').group(), re.match('b', 'ab'), re.fullmatch('a.c', 'abc').span()",
    r"re.findall(r'\d+', 'a1b22'), re.findall('(a)(b)?', 'abaa'), re.findall('', 'ab')",
    r"re.split(',', 'a,b,,c'), re.split('(,)', 'a,b'), re.split(',', 'a,b,c', maxsplit=1)",
    r"re.sub('a', 'b', 'aXa'), re.sub('(a)(b)', r'\2\1', 'ab'), re.subn('a', '', 'aa')",
    r"re.sub('(?P<n>a)', r'<\g<n>\g<1>\\>', 'xa'), re.sub('a', lambda m: m.group().upper(), 'ab')",
    r"re.sub('a', r'\n', 'a'), re.sub('é', 'e', 'café'), re.sub('a', 'b', 'aaa', count=2)",
    "re.search('A', 'xa', re.I).start(), re.search('^b', 'a\\nb', re.M).end()",
    "re.match('a.b', 'a\\nb', re.S | re.I) is None, re.search('é', 'aéb').span()",
    "re.match('(?P<x>a)(b)?', 'a').groupdict(), re.match('(a)(b)?', 'a').groups()",
    "re.match('(a)(b)?', 'ab').group(1, 2), re.match('(a)', 'a')[1], re.escape('a.b')",
    "[m.group() for m in re.finditer('a|b', 'xaby')], re.compile('a').sub('b', 'aa')",
    "re.compile('(a)').pattern, re.search(b'a', b'ba').start(), re.sub(b'(a)', b'[\\\\1]', b'xa')",
    "json.loads('{\"a\": [1, 2.5, null, true, \"é\"]}'), json.loads(b'5')",
    "json.dumps({'a': [1, None, 'é']}), json.dumps([1, 2], separators=(',', ':'))",
    "json.dumps({'b': 1, 'a': 2}, sort_keys=True, indent=2), json.dumps('é', ensure_ascii=False)",
    "json.loads('\"[[[[\"'), json.loads('[' * 90 + ']' * 90)",
    "hashlib.md5(b'a').hexdigest(), hashlib.sha256(b'a').digest(), hashlib.new('sha1', b'a').name",
    "hashlib.sha512().hexdigest(), hashlib.blake2b(b'x').hexdigest(), hashlib.sha1().digest_size",
    "hmac.new(b'k', b'm', 'sha256').hexdigest(), hmac.digest(b'k', b'm', 'sha1')",
    "hmac.new(b'k', b'm', hashlib.sha384).hexdigest(), hmac.compare_digest('a', 'a')",
    "hmac.compare_digest(b'a', b'b'), hmac.compare_digest('a', 'ab')",
    "base64.b64encode(b'a?>'), base64.b64decode('YT8+'), base64.urlsafe_b64encode(b'a?>')",
    "base64.urlsafe_b64decode(b'YT8-'), base64.b32encode(b'a'), base64.b32decode('ME======')",
    "base64.b16encode(b'a'), base64.b16decode('61')",
    "math.floor(2.5), math.ceil(2.5), math.sqrt(2), math.log(8, 2), math.pi, math.gcd(12, 8)",
    "math.isqrt(17), math.hypot(3, 4), math.isnan(math.nan), math.trunc(-2.5), math.inf > 5",
    "urllib.parse.quote('a b/é'), urllib.parse.quote('a/b', safe='')",
    "urllib.parse.unquote('%C3%A9'), urllib.parse.unquote('%')",
    "urllib.parse.quote_plus('a b'), urllib.parse.unquote_plus('a+b')",
    "urllib.parse.urlencode({'a': 1, 'b': 'é x'}), urllib.parse.urlencode([('a', 'b')])",
    "urllib.parse.urlencode({'a': [1, 2]}, doseq=True), urllib.parse.parse_qsl('a=1&b=%41&c')",
    "urllib.parse.parse_qs('a=1&a=2&b=', keep_blank_values=True)",
    "time.strftime('%Y-%m-%d %H:%M:%S %%', time.gmtime(0)), time.gmtime(86400).tm_mday",
    "time.gmtime(0)[0], time.strftime('%Y', (2020, 1, 1, 0, 0, 0, 0, 1, 0))",
]  # fmt: skip


@pytest.mark.parametrize("expression", SAME)
def test_means_what_it_means_in_python(hooks: Hooks, expression: str) -> None:
    """An expression has the same value as in Python."""
    own = {name.__name__: name for name in (base64, hashlib, hmac, json, math, re, time)}
    expected = eval(f"({expression})", {**own, "urllib": urllib})
    assert hooks.result(f"{IMPORTS}request.context['out'] = ({expression})") == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("ipaddress.ip_address('10.1.2.3') in ipaddress.ip_network('10.0.0.0/8')", True),
        ("ipaddress.ip_address('::1') in ipaddress.ip_network('10.0.0.0/8')", False),
        ("ipaddress.ip_address(request.client).is_private", True),
        ("str(ipaddress.ip_address('::1')) + f\"{ipaddress.ip_network('10.0.0.0/8')}\"",
         "::110.0.0.0/8"),
        ("ipaddress.ip_address('10.0.0.1') == ipaddress.ip_address('10.0.0.1')", True),
        ("ipaddress.ip_address('10.0.0.1') < ipaddress.ip_address('10.0.0.2')", True),
        ("{ipaddress.ip_address('10.0.0.1'): 1}[ipaddress.ip_address('10.0.0.1')]", 1),
        ("ipaddress.ip_network('10.0.0.1/8', strict=False).prefixlen", 8),
        ("sorted([ipaddress.ip_address('10.0.0.2'), ipaddress.ip_address('10.0.0.1')])[0].version",
         4),
        ("[u.scheme, u.hostname, u.port, u.path, u.query, u.fragment]",
         ["http", "a", 8, "/b", "c=d", "e"]),
        ("str(u)", "http://a:8/b?c=d#e"),
        # By place, which Python from 3.13 on warns of.
        ("re.split(',', 'a,b,c', 1) + [re.sub('a', 'b', 'aaa', 2)]", ["a", "b,c", "bba"]),
        ("0 <= random.random() < 1 and random.randint(3, 3) == 3", True),
        ("random.choice(['a']) + random.choice('b')", "ab"),
        ("1 <= random.uniform(1, 2) <= 2", True),
        ("time.time() > 1e9 and time.monotonic() > 0", True),
        ("len(time.strftime('%Y'))", 4),
        ("re.compile('a', re.I).flags", 2),
        ("str(re.compile('a'))", "<pattern 'a'>"),
        ("hashlib.sha256(b'a').copy().hexdigest() == hashlib.sha256(b'a').hexdigest()", True),
    ],
)  # fmt: skip
def test_computes(hooks: Hooks, expression: str, expected: Any) -> None:
    """Functions that differ a little from Python's, or depend on chance, do what they should."""
    body = f"{IMPORTS}u = urllib.parse.urlsplit('http://a:8/b?c=d#e')\n"
    assert hooks.result(f"{body}request.context['out'] = {expression}") == expected


def test_digest_takes_more(hooks: Hooks) -> None:
    """A digest takes bytes in parts, as Python's does."""
    found = hooks.result(
        "import hashlib\nd = hashlib.sha256()\nd.update(b'a')\nd.update(b'b')\n"
        "request.context['out'] = d.hexdigest()"
    )
    assert found == hashlib.sha256(b"ab").hexdigest()


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("re.compile('(')", "PatternError: expected a pattern of RE2's: missing )"),
        ("re.search('a', 5)", "TypeError: expected str, got an int"),
        ("re.search(b'a', 'a')", "TypeError: expected bytes, got a str"),
        ("re.compile('a', 64)", "ValueError: expected no flags other than re.I, re.M and re.S"),
        ("re.compile(5)", "expected a pattern of at most 1000 characters"),
        ("re.sub('a', 5, 'a')", "not callable"),
        ("re.sub('a', lambda m: 5, 'a')", "expected str to put in, got an int"),
        (r"re.sub('a', r'\2', 'a')", "there is no group"),
        (r"re.sub('a', r'\q', 'a')", "expected \\1, \\g<name>"),
        ("re.split('a', 'a', -1)", "expected how many"),
        ("json.loads('{')", "JsonError: expected JSON: Expecting"),
        ("json.loads(5)", "TypeError: expected str or bytes, got an int"),
        ("json.dumps({1, 2})", "not JSON serializable"),
        ("json.dumps(1, indent=100)", "expected an indent"),
        ("json.dumps(1, separators=5)", "expected a tuple of two texts"),
        ("hashlib.md5('a')", "expected bytes (text.encode()), got a str"),
        ("hmac.new('k', b'm')", "expected a key of bytes"),
        ("hmac.compare_digest('a', b'a')", "expected bytes"),
        ("base64.b64decode('a')", "ValueError: expected base64"),
        ("base64.b64encode('a')", "expected bytes"),
        ("time.gmtime('x')", "expected seconds since 1970"),
        ("time.strftime('%E')", "expected a format"),
        ("time.strftime('%Y', 5)", "expected a time as time.gmtime() gives it"),
        ("math.sqrt('a')", "expected a number, got a str"),
        ("math.sqrt(-1)", "ValueError"),
        ("random.choice({})", "expected a list, a tuple or a text"),
        ("random.randint(1.5, 2)", "expected an integer"),
        ("ipaddress.ip_address('x')", "ValueError"),
        ("ipaddress.ip_network('10.0.0.1/8')", "has host bits set"),
        ("urllib.parse.quote(5)", "expected a text, got an int"),
        ("urllib.parse.urlencode({'a': []})", "expected a text or a number, got a list"),
        ("urllib.parse.urlencode(5)", "expected a dict or a list"),
        ("urllib.parse.urlsplit('http://a:b/').port", "ValueError"),
        ("urllib.parse.quote('a' * 70000)", "expected at most 65536 characters"),
    ],
)
def test_what_is_wrong_is_said(hooks: Hooks, expression: str, message: str) -> None:
    """The error says what was expected."""
    with pytest.raises(HookFailure) as caught:
        hooks.result(f"{IMPORTS}{expression}")
    assert message in str(caught.value)


def test_errors_of_modules_can_be_caught(hooks: Hooks) -> None:
    """Hooks catch these errors by the names that Python has for them."""
    found = hooks.result(
        "import re, json\nout = []\n"
        "try: re.compile('(')\nexcept re.error as e: out.append('re')\n"
        "try: json.loads('{')\nexcept json.JSONDecodeError as e: out.append('json')\n"
        "try: json.loads('[' * 1000)\nexcept ValueError as e: out.append('deep')\n"
        "request.context['out'] = out"
    )
    assert found == ["re", "json", "deep"]
