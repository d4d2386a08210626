"""Hooks compute what Python computes, within the limits."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.hooks.script import HookFailure
from tests.hooks.python.loading import Hooks, request

#: Expressions, which mean the same in Python.
SAME = [
    "1 + 2 * 3 - 4 / 5",
    "7 // 2, 7 % 3, -7 // 2, -7 % 3, 2 ** 10, 2 ** -1, 2.5 ** 2",
    "1 << 10, 1024 >> 3, 6 & 3, 6 | 3, 6 ^ 3, ~6, -6, +6, not 6",
    "True + True, True & False, 3 * True",
    "'a' + 'b', 'ab' * 2, 2 * 'ab', 'a' * -1, b'a' + b'b', b'a' * 2",
    "[1] + [2], [1] * 3, (1,) + (2,), (1, 2) * 2",
    "{1, 2} | {3}, {1, 2} & {2}, {1, 2} - {2}, {1, 2} ^ {2, 3}, {'a': 1} | {'b': 2}",
    "'%s is %d, %5.2f%% %r %x %c' % ('a', 5, 2.5, 'b', 255, 'z')",
    "'%(a)s-%(b)03d-%(a)s' % {'a': 'x', 'b': 7}",
    "'%s' % 5, '%s' % None, '%s' % [1, 'a'], '%-5s|' % 'a', '%+d' % 3, '%r' % (b'x',)",
    "f'{1}', f'{1!r:>5}', f'{\"a\":<4}|', f'{2.5:.3f}', f'{255:#x}', f'{1000000:,}', f'{\"é\"!a}'",
    'f\'{[1, "a"]} {None} {True:d} {b"x"}\'',
    "f'{1:{2}{3}}'",
    "1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, 'a' != 'b', [1, 2] == [1, 2], (1, 2) < (1, 3)",
    "1 in [1, 2], 3 not in (1, 2), 'a' in 'abc', 'x' in {'x': 1}, 2 in {2}, 2 in range(5)",
    "[1, 2] in [[1, 2], [3]], (1,) in {(1,): 2}",
    "[1, 2, 3][1], [1, 2, 3][-1], [1, 2, 3][::-1], 'abc'[1:], (1, 2, 3)[:2], {'a': 1}['a']",
    "[*range(3), *'ab'], (*[1], 2), {*[1, 2], 3}, {**{'a': 1}, 'b': 2}",
    "[x * y for x in range(3) for y in range(3) if x != y]",
    "{x: x * x for x in range(4)}, {x % 3 for x in range(9)}",
    "sum(x for x in range(10)), list(x for x in 'ab'), any(x > 2 for x in [1, 3])",
    "[(a, b) for a, b in [(1, 2), (3, 4)]], [a for a, (b, c) in [(1, (2, 3))]]",
    "(lambda a, b=2, *c, d=4, **e: [a, b, c, d, e])(1, 5, 6, d=7, x=8)",
    "max(*[1, 3, 2]), dict(**{'a': 1}), 'x' if 1 else 'y', 0 or 'z', 1 and 2",
    "len('abc'), len([1]), len({}), abs(-5), abs(-2.5), round(2.567, 2), round(2.5), divmod(7, 2)",
    "min([3, 1, 2]), max('abc'), min([], default=5), max([1, -3], key=abs), min(3, 2)",
    "sum([1, 2.5]), sum([1], 5), pow(2, 5)",
    "sorted([3, 1, 2]), sorted('bca', reverse=True), sorted(['bb', 'a'], key=len)",
    "sorted([(1, 'b'), (1, 'a')]), sorted({'b': 1, 'a': 2})",
    "list(zip([1, 2], 'ab')), list(zip([1], [2], [3])), list(enumerate('ab', 1))",
    "list(map(str, [1, 2])), list(map(lambda a, b: a + b, [1], [2])), list(filter(None, [0, 1]))",
    "list(filter(lambda x: x > 1, [1, 2])), list(reversed([1, 2, 3])), list(range(1, 10, 3))",
    "all([]), any([]), all([1, 0]), any((0, 1)), next(iter([5])), next(iter([]), 6)",
    "str(5), str(2.5), str(None), str([1]), str(b'a'), repr('a'), str(), ascii('é')",
    "int('12'), int('ff', 16), int(2.9), int(), int(' 7 '), int(True), float('2.5'), float(3)",
    "bool([]), bool('a'), bytes([1, 2]), bytes(2), bytes('é', 'utf-8'), list('ab'), tuple([1])",
    "dict([('a', 1)], b=2), dict({'a': 1}), set('aab') == {'a', 'b'}, frozenset([1])",
    "ord('a'), chr(97), hex(255), bin(5), oct(8), callable(len), callable(5)",
    "isinstance('a', str), isinstance(1, (str, int)), isinstance(True, int), isinstance(1, dict)",
    "isinstance(ValueError(), ValueError), isinstance(KeyError(), (str, LookupError))",
    "'aBc'.upper(), 'aBc'.lower(), ' a '.strip(), 'a-b'.split('-'), '-'.join(['a', 'b'])",
    "'abc'.replace('b', 'xx'), 'aaa'.replace('a', 'b', 2), 'abc'.startswith(('x', 'a'))",
    "'a'.ljust(3) + '|', 'a'.rjust(3, '.'), 'a'.center(5), '7'.zfill(3), 'a\\tb'.expandtabs(4)",
    "'a=b=c'.partition('='), 'a=b=c'.rpartition('='), 'abc'.find('c'), 'abc'.rfind('x')",
    "'abc'.translate({97: 'x', 98: None}), 'é'.encode(), b'\\xe9'.decode('latin-1'), b'a'.hex()",
    "'a b'.title(), 'abc'.count('b'), 'x1'.isalnum(), 'abc'.removeprefix('a')",
    "'abc'.index('b'), 'é'.encode('ascii', 'replace'), 'a,b'.rsplit(',', 1)",
    "[1, 2, 1].count(1), [1, 2].index(2), (1, 2).index(2), [1].copy(), {'a': 1}.copy()",
    "{'a': 1}.get('a'), {}.get('a', 2), {'a': 1}.items() and 1, list({'a': 1}.items())",
    "{1}.union([2]), {1, 2}.difference([2]), {1}.issubset({1, 2}), {1} <= {1, 2}",
    "(5).bit_length(), (2.0).is_integer(), range(5).index(3), range(5)[1:3]",
    "1 if (y := 5) else 2, y",
    "[y := 1, y ** 2]",
    "-(2 ** 3), 2 ** 3 ** 2, (-2) ** 3, 1e3, 0x10, 1_000",
]


@pytest.mark.parametrize("expression", SAME)
def test_means_what_it_means_in_python(hooks: Hooks, expression: str) -> None:
    """An expression has the same value, of the same type, as in Python."""
    expected: Any = eval(f"({expression})")
    found = hooks.value(f"({expression})")
    assert found == expected
    assert repr(found) == repr(expected)


#: Bodies that leave a value in ``out``, with that value.
BODIES = [
    ("x = [1]\nx += (2, 3)\nx.append(4)\nx.extend([5])\nx.insert(0, 0)\nout = x",
     [0, 1, 2, 3, 4, 5]),
    ("x = y = [1]\nx += [2]\nout = y", [1, 2]),
    ("x = y = {1}\nx |= {2}\nx -= {1}\nout = y", {2}),
    ("x = y = {1, 2}\nx &= {2, 3}\nx ^= {4}\nout = y", {2, 4}),
    ("x = {}\nx |= {'a': 1}\nx['b'] = 2\nx['b'] += 3\ndel x['a']\nout = x", {"b": 5}),
    ("x = 5\nx -= 1\nx *= 3\nx //= 2\nx **= 2\nx %= 7\nx <<= 3\nx >>= 1\nx |= 1\nx /= 2\nout = x",
     2.5),
    ("a, (b, c), *d = 1, (2, 3), 4, 5\nout = [a, b, c, d]", [1, 2, 3, [4, 5]]),
    ("[a, b] = 'xy'\nout = a + b", "xy"),
    ("a = b = 5\nout = a + b", 10),
    ("x = [3, 1, 2]\nx.sort()\nx.reverse()\ny = x.pop()\nx.remove(3)\nx.clear()\nout = [x, y]",
     [[], 1]),
    ("x = ['b', 'A']\nx.sort(key=lambda v: v.lower())\nout = x", ["A", "b"]),
    ("x = {'a': 1}\nx.setdefault('b', 2)\nx.update({'c': 3}, d=4)\nx.update([('e', 5)])\n"
     "y = x.pop('a')\nout = [x, y, x.pop('z', 9)]", [{"b": 2, "c": 3, "d": 4, "e": 5}, 1, 9]),
    ("x = {1}\nx.add(2)\nx.discard(7)\nx.remove(1)\nx.update([3], {4})\nout = sorted(x)",
     [2, 3, 4]),
    ("x = [1, 2, 3, 4]\ndel x[1:3]\ndel x[0]\nout = x", [4]),
    ("try:\n    1 / 0\nexcept (KeyError, ZeroDivisionError) as e:\n    out = e.args\n",
     ("division by zero",)),
    ("out = []\ntry:\n    out.append(1)\nexcept ValueError:\n    out.append(2)\nelse:\n"
     "    out.append(3)\nfinally:\n    out.append(4)", [1, 3, 4]),
    ("out = []\ntry:\n    try:\n        raise ValueError('a')\n    finally:\n"
     "        for n in range(2):\n            out.append(n)\nexcept ValueError as e:\n"
     "    out.append(str(e))", [0, 1, "a"]),
    ("try:\n    try:\n        raise KeyError('a')\n    except KeyError as e:\n"
     "        raise ValueError('b') from e\nexcept ValueError as e:\n    out = str(e)", "b"),
    ("try:\n    raise ValueError\nexcept Exception:\n    out = 1", 1),
    ("try:\n    assert 1 == 2, 'no'\nexcept AssertionError as e:\n    out = str(e)", "no"),
    ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nout = f(20)", 2432902008176640000),
    ("def make():\n    count = 0\n    def add():\n        nonlocal count\n        count += 1\n"
     "        return count\n    return add\nf = make()\nf()\nout = f()", 2),
    ("out = 0\nfor n in range(10):\n    if n == 2:\n        continue\n    if n == 5:\n"
     "        break\n    out += n\nelse:\n    out = -1", 8),
    ("out = 0\nwhile True:\n    out += 1\n    if out > 4:\n        break", 5),
    ("x: int = 5\ny: str\nout = x", 5),
    ("def kind(x):\n    match x:\n        case 1 | -2:\n            return 'number'\n"
     "        case [a, *_, 'z']:\n            return a\n"
     "        case {'k': v} if v:\n            return v\n        case None | True:\n"
     "            return 'single'\n        case 'x' as y:\n            return y\n"
     "        case _:\n            return 'other'\n"
     "out = [kind(v) for v in (1, -2, ['q', 2, 'z'], {'k': 5}, None, 'x', {'k': 0}, 2.5)]",
     ["number", "number", "q", 5, "single", "x", "other", "other"]),
    ("for i, (a, b) in enumerate({'x': 1}.items()):\n    out = [i, a, b]", [0, "x", 1]),
    ("x = 5\ndel x\ntry:\n    x\nexcept NameError:\n    out = 'gone'", "gone"),
    ("import json\nfrom hashlib import sha256 as s\nimport urllib.parse\nfrom urllib import parse\n"
     "import urllib.parse as p\nout = [json.loads('[1]'), s(b'').hexdigest()[:4],"
     " urllib.parse.quote('é'), parse.unquote('%41'), p.quote('a b')]",
     [[1], "e3b0", "%C3%A9", "A", "a%20b"]),
    ("pass\n'text'\nout = None\nassert True", None),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected"), BODIES)
def test_statements_work(hooks: Hooks, body: str, expected: Any) -> None:
    """Statements leave the values that they leave in Python."""
    names: dict[str, Any] = {}
    exec(body, names)
    assert names["out"] == expected
    assert hooks.result(f"{body}\nrequest.context['out'] = out") == expected


def test_module_globals_last_between_calls(hooks: Hooks) -> None:
    """A hook may count, or keep a result, in a global."""
    script = hooks.load(
        "n = 0\ncache = {}\ndef on_request(request):\n  global n\n  n += 1\n"
        "  cache[request.path] = cache.get(request.path, 0) + 1\n"
        "  request.context['out'] = [n, cache]"
    )
    for _ in range(3):
        asked = request()
        script.on_request(asked)
    assert asked.context["out"] == [3, {"/a/b": 3}]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 + 'a'", "expected two values that + takes, got an int and a str"),
        ("'a' + 1", "expected two values that + takes, got a str and an int"),
        ("[1] + (2,)", "expected two values that + takes, got a list and a tuple"),
        ("'a' - 'b'", "expected two values that - takes"),
        ("[] * 1.5", "expected two values that * takes"),
        ("None ** 2", "expected two values that ** takes"),
        ("1.5 << 2", "expected two values that << takes"),
        ("'a' / 2", "expected two values that / takes"),
        ("{} & {}", "expected two values that & takes"),
        ("-[]", "expected a number, got a list"),
        ("'%d' % 'a'", "expected a number for %d, got a str"),
        ("'%s %s' % 'a'", "expected as many values"),
        ("'%s' % ('a', 'b')", "expected as many fields"),
        ("'%y' % 1", "expected %s, %d"),
        ("f'{1:zz}'", "expected a format such as"),
        ("''.join([1])", "expected str items to join, got an int"),
        ("'a'.join(5)", "expected something to iterate over, got an int"),
        ("[1].no", "a list has no attribute no in hooks"),
        ("None.x", "None has no attribute x in hooks"),
        ("int([])", "expected a number or a text of one, got a list"),
        ("int('x')", "invalid literal"),
        ("sum(['a'])", "expected a number, got a str"),
        ("min([])", "expected at least one item"),
        ("{}['a']", "KeyError: a"),
        ("[][0]", "IndexError"),
        ("5[0]", "an int has no items in hooks"),
        ("{[]: 1}", "unhashable"),
        ("{**[]}", "expected a dict behind **, got a list"),
        ("[*5]", "expected something to iterate over, got an int"),
        ("range('a')", "expected integers"),
        ("zip([1], [2, 3], strict=True)", "longer than argument 1"),
        ("{1: 2}.update(5)", "expected something to iterate over"),
        ("request.args", "has no attribute args"),
    ],
)
def test_what_is_wrong_is_said(hooks: Hooks, expression: str, message: str) -> None:
    """The error says what was expected."""
    with pytest.raises(HookFailure) as caught:
        hooks.value(expression)
    assert message in str(caught.value)


def test_strings_that_grow_stay_within_a_value(hooks: Hooks) -> None:
    """A hook can make the largest text that is allowed, and no text with one character more."""
    assert hooks.value("len('a' * 1048576)") == 1 << 20
    for expression in ("'a' * 1048577", "'a' * 1048576 + 'a'", "f\"{'a' * 1048576}a\""):
        with pytest.raises(HookFailure, match=r"1048576|shorter"):
            hooks.value(expression)
