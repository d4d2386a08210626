# ruff: noqa: E501, UP031 - a table
"""The worst arguments for everything that Python hooks are offered.

``VALUES`` are as large as the values of a hook can be.  A hook would need many calls for some
of them, so they are made here.  ``CALLS`` has lines of a hook, each of which does one thing
with the values.  Most calls are refused, and none may take long before it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["CALLS", "VALUES"]

#: Characters, items, and 60 bits: what :mod:`slardar.hooks.python.limits` allows.
TEXT: Final = 1 << 20
ITEMS: Final = 1 << 16
COLLIDING: Final = 2500


def _colliding() -> list[tuple[int, int]]:
    """Tuples with one hash.  CPython makes the hash of a tuple from its items, without a secret."""
    mask = (1 << 64) - 1
    one, two, five = 11400714785074694791, 14029467366897019727, 2870177450012600261
    inverse, made, first = pow(two, -1, 1 << 64), [], 0
    while len(made) < COLLIDING:
        first += 1
        state = (five + first * two) & mask
        state = ((state << 31 | state >> 33) * one) & mask
        second = (12345 - state) * inverse & mask
        second -= (second >> 63) << 64
        if -(1 << 60) < second < 1 << 60:
            made.append((first, second))
    assert len({hash(pair) for pair in made}) == 1
    return made


def _nested() -> Any:
    """A tuple that holds a tuple twice on each of many levels: it takes little memory, but a
    walk over it never ends."""
    made: Any = (1, 2)
    for _ in range(60):
        made = (made, made)
    return made


def _error() -> Exception:
    made = ValueError("a" * 1000)
    for _ in range(12):
        made = ValueError(*[made] * 10)
    return made


#: By name; each is made when it is first needed.
VALUES: Final[dict[str, Callable[[], Any]]] = {
    "long": lambda: "a" * TEXT,
    # Equal but for the last character, so a comparison reads all of it.
    "long2": lambda: "a" * (TEXT - 1) + "b",
    "wide": lambda: "\u4e00" * (TEXT // 2),
    "astral": lambda: "\U0001f600" * (TEXT // 4),
    "digits": lambda: "1" * TEXT,
    "upper": lambda: "\u0130" * (TEXT // 2),
    "lines": lambda: "\n" * TEXT,
    "blanks": lambda: " " * TEXT,
    "percents": lambda: "%s" * (TEXT // 2),
    "half": lambda: "a" * (TEXT // 2),
    "some": lambda: "a" * (1 << 18),
    "period": lambda: "ab" * (TEXT // 2),
    "needle": lambda: "a" * 500 + "b" + "a" * 500,
    "needles": lambda: ("a" * 60000 + "b",) * 100,
    "data": lambda: b"\xff" * TEXT,
    "data2": lambda: b"\xff" * (TEXT - 1) + b"a",
    "ascii": lambda: b"a" * TEXT,
    "number": lambda: (1 << 4095) - 1,
    "list": lambda: ["a" * (TEXT - 1) + "c"] * ITEMS,
    "tuple": lambda: ("a" * (TEXT - 1) + "c",) * ITEMS,
    "datas": lambda: [b"\xff" * (TEXT - 1) + b"c"] * ITEMS,
    "shorts": lambda: [str(n) for n in range(ITEMS)],
    "numbers": lambda: list(range(ITEMS)),
    "lists": lambda: [[n] for n in range(ITEMS)],
    "pairs": lambda: [(n, n) for n in range(ITEMS)],
    "floats": lambda: [float(n) for n in range(ITEMS)],
    "bigs": lambda: [(1 << 4000) + n for n in range(ITEMS)],
    "bytes": lambda: [255] * ITEMS,
    "sorts": lambda: ["a" * 20 + str(n * 7919 % 10000) for n in range(9000)],
    "dict": lambda: dict.fromkeys(range(ITEMS), "a" * (TEXT - 1) + "c"),
    "dict2": lambda: dict.fromkeys(range(ITEMS, 2 * ITEMS), 1),
    "texts": lambda: {str(n): "a" * 100 for n in range(ITEMS)},
    "set": lambda: set(range(ITEMS)),
    "set2": lambda: set(range(ITEMS // 2, ITEMS // 2 * 3)),
    "halfset": lambda: set(range(ITEMS // 2)),
    "halfset2": lambda: {n + 0.5 for n in range(ITEMS // 2)},
    "same": lambda: set(_colliding()[: COLLIDING // 2]),
    "same2": lambda: set(_colliding()[COLLIDING // 2 :]),
    "samelist": lambda: _colliding()[: COLLIDING // 2],
    "samelist2": lambda: _colliding()[COLLIDING // 2 :],
    "samedict": lambda: dict.fromkeys(_colliding()[: COLLIDING // 2], 1),
    "samedict2": lambda: dict.fromkeys(_colliding()[COLLIDING // 2 :], 1),
    "sameone": lambda: _colliding()[-1],
    "nested": _nested,
    "nesteds": lambda: {(1, 2): _nested()},
    "error": _error,
    "range": lambda: range(1 << 20),
    "manylists": lambda: [[0] * 100] * 99,
    "wides": lambda: ["\u4e00" * 1000] * 1000,
    "heavy": lambda: [["a" * 250] * 90] * 100,
    "heavydict": lambda: {str(n): ["a" * 255] * 10 for n in range(300)},
    "table": lambda: dict.fromkeys(range(ITEMS), None),
    "swaps": lambda: {ord("a"): "b", **dict.fromkeys(range(200, 60000))},
    "json": lambda: "[" + "1," * 65000 + "1]",
    "jsontexts": lambda: "[" + '"\\u1234",' * 14000 + "1]",
    "jsonkeys": lambda: "{" + ",".join(f'"{n}":1' for n in range(12000)) + "}",
    "jsonfloats": lambda: "[" + "1.2345678901234567e-300," * 5000 + "1]",
    "jsondigits": lambda: "[" + "1" * 4000 + "]",
    "jsonopen": lambda: '"\\' * 65000,
    "jsonlevels": lambda: "[]" * 60000,
    "url": lambda: "%41" * 20000,
    "url2": lambda: "a=%ff&" * 10000,
    "signs": lambda: "\u20ac" * 60000,
    "groups": lambda: "()" * 500,
    "stars": lambda: "(a*)*" * 190,
    "classes": lambda: r"\pL" * 300,
    "repeats": lambda: "(((a{10}){10}){10})" * 20,
    "dots": lambda: "(.*.*.*)" * 100,
    "subject": lambda: "a" * (1 << 16),
    "subject2": lambda: "a" * 1000,
    "base64": lambda: b"QUJD" * (TEXT // 4),
    "base32": lambda: b"MFRG" * (TEXT // 4),
    "spaces": lambda: b"\n" * TEXT,
    "fields": lambda: {str(n): "a" * 60 for n in range(999)},
}

_TEXT_METHODS: Final = (
    "capitalize", "casefold", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
    "isidentifier", "islower", "isnumeric", "isprintable", "isspace", "istitle", "isupper",
    "lower", "lstrip", "rstrip", "split", "rsplit", "splitlines", "strip", "swapcase", "title",
    "upper", "expandtabs", "encode",
)  # fmt: skip
_TEXTS: Final = ("long", "wide", "astral", "upper", "lines", "blanks", "digits", "some")

_ALL: Final = [
    *(f"{text}.{name}()" for name in _TEXT_METHODS for text in _TEXTS),
    *(f"data.{name}()" for name in ("lower", "upper", "title", "swapcase", "split", "isalnum",
      "decode", "hex", "splitlines", "capitalize", "strip")),
    *(
        f"{text}.{name}({what})"
        for name in ("count", "find", "rfind", "index", "rindex", "split", "rsplit", "partition",
            "rpartition", "startswith", "endswith", "removeprefix", "removesuffix", "strip",
            "lstrip", "rstrip")
        for text, what in (("long", "needle"), ("long2", "long"), ("long", "'a'"),
            ("long", "'b'"), ("long", "half"), ("period", "half"), ("long", "'ab'"),
            ("period", "'ba' * 1000 + 'a'"), ("wide", "wide"), ("data", "data2"),
            ("long", "'a' * 1000 + 'b'"), ("long", "'b' + 'a' * 1000"),
            ("long", "needles"), ("long", "'\u4e00'"), ("data", "b'\\xff'"))
    ),
    *(f"long.encode({coding!r}, {errors!r})" for coding in ("utf-8", "ascii", "latin-1")
        for errors in ("strict", "replace")),
    *(
        f"{text}.encode({coding!r}, {errors!r})"
        for text in ("wide", "astral", "('\\udcff' * 65536)", "('\\udcff' * 1000000)")
        for coding in ("utf-8", "ascii", "latin-1")
        for errors in ("strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace",
            "surrogateescape")
    ),
    *(
        f"{data}.decode({coding!r}, {errors!r})"
        for data in ("data", "ascii", "(b'a\\xff' * 500000)")
        for coding in ("utf-8", "ascii", "latin-1")
        for errors in ("strict", "ignore", "replace", "backslashreplace", "xmlcharrefreplace",
            "surrogateescape")
    ),
    "str(data, 'utf-8')", "bytes(wide, 'utf-8')",
    *(f"{text}.replace({old}, {new})" for text in ("long", "period", "wide")
        for old, new in (("'a'", "'b'"), ("'a'", "''"), ("''", "'b'"), ("'a'", "'bb'"),
            ("needle", "''"), ("'ab'", "'c'"), ("'a' * 1000 + 'b'", "''"), ("'a'", "'\u4e00'"))),
    "long.replace('a', long)", "long.replace('', long)", "data.replace(b'\\xff', b'')",
    "data.replace(b'\\xff', b'aa')", "data.replace(b'\\xff', b'a')",
    "long.translate(table)", "long.translate(swaps)", "wide.translate(swaps)",
    "long.translate({97: long})", "long.translate({97: 'bb'})", "long.translate({97: None})",
    "long.translate(dict)", "long.center(1048576)", "'a'.zfill(1048576)", "'a'.ljust(1048576, 'b')",
    "'\\t'.expandtabs(100) * 10000", "('\\t' * 100000).expandtabs(10)", "lines.expandtabs(100)",
    "'a'.join(list)", "''.join(list)", "long.join(shorts)", "'a'.join(shorts)", "''.join(long)",
    "long.join(range)", "'a'.join(texts.keys())", "b'a'.join(datas)", "''.join(wide)",
    "'a'.join(dict.values())",
    # Lists, tuples.
    *(
        f"{needle} in {box}"
        for needle in ("long", "long2", "data", "1.5", "number", "nested", "[1]", "-1", "error",
            "sameone", "lists", "'x'", "None")
        for box in ("list", "tuple", "datas", "numbers", "lists", "dict", "dict.keys()",
            "dict.values()", "dict.items()", "set", "range", "iter(list)", "iter(dict.values())",
            "iter(tuple)", "reversed(list)", "(x for x in list)", "map(str, list)", "long", "data",
            "zip(list, list)", "enumerate(list)", "iter(range)", "bigs", "shorts", "same",
            "iter(dict)", "iter(set)", "iter(dict.items())", "filter(None, list)", "samedict",
            "samedict.items()", "iter(long)", "iter(data)", "texts.values()", "reversed(range)",
            "'x'", "floats", "pairs", "samelist")
    ),
    *(f"{box}.{name}({needle})" for box in ("list", "tuple", "datas", "bigs", "lists", "floats")
        for name in ("index", "count", "remove") for needle in ("long", "long2", "data",
            "number", "[1]", "1.5", "nested")),
    "range.index(1.5)", "range.count(1.5)", "range.index(True)", "range.index('a')",
    "range.index(long)", "range.count(nested)", "range.index(number)",
    "numbers.insert(0, 1)", "list.pop(0)", "numbers.reverse()", "numbers.copy()", "list.clear()",
    "lists.clear()", "numbers.extend(numbers)", "list.extend(range)", "list.append(1)",
    "list.sort()", "numbers.sort()", "sorts.sort()", "sorts.sort(key=lambda x: x)",
    *(f"{name}({box})" for name in ("sorted", "min", "max", "sum", "list", "tuple", "dict", "set",
            "frozenset", "reversed", "enumerate", "zip", "any", "all", "iter", "len", "str", "repr",
            "ascii", "bool", "bytes", "int", "float", "next", "abs", "round", "hex", "ord",
            "callable")
        for box in ("list", "tuple", "datas", "shorts", "numbers", "lists", "pairs", "floats",
            "bigs", "sorts", "dict", "texts", "set", "range", "dict.items()", "dict.values()",
            "iter(list)", "iter(range)", "long", "wide", "data", "nested", "error", "samelist",
            "samedict", "number", "digits", "manylists", "wides", "heavy", "heavydict", "same",
            "zip(list, list)", "[error] * 100", "[False] * 65536")),
    "sorted([long] * 10000)", "sorted([long, long2] * 100)", "min([long, long2] * 30000)",
    "max(list, key=len)", "sorted(shorts, key=lambda x: long)", "max([nested, nested])",
    "zip(*lists)", "zip(*[numbers] * 100)", "zip(*[numbers] * 5000)", "map(len, list)",
    "map(lambda *x: 1, *[numbers] * 100)", "list(map(str, numbers))", "filter(None, list)",
    "dict(texts)", "dict(pairs)", "dict(**texts)", "dict(zip(samelist, samelist))",
    "set(samelist)", "isinstance(1, (str,) * 65536)", "isinstance(1, tuple)",
    "isinstance(1, (ValueError,) * 65536)", "range(*numbers)",
    "sum(bigs)", "sum([0.1] * 65536)", "divmod(number, 3)", "round(number, -100)", "pow(3, 2000)",
    "int(digits)", "int('1' * 1233)", "int('z' * 1000, 36)", "float('1' * 1233)", "str(number)",
    "number ** 2", "2 ** 4095", "number * number", "number // 3", "number % 3", "number / 3",
    "-number", "number << 1", "number >> 1", "3 ** number", "0.5 ** number", "(-1) ** number",
    "1 ** number", "number & number", "number << number", "1 << number", "1 >> number",
    "True ** number",
    # Operators on containers.
    "long + long", "half + half", "'' + long", "numbers + numbers", "numbers + []", "tuple + ()",
    "data + data", "long * 2", "'a' * 1048576", "'ab' * 524288", "[0] * 65536", "numbers * 1",
    "(0,) * 65536", "b'a' * 1048576", "'\u4e00' * 1048576", "list * 1000000",
    "percents % tuple", "'%s' % long", "'%s%s' % (long, long)", "('%999d' * 1000) % (1,)",
    "percents % 1", "('%%' * 500000) % ()", "'%r' % long", "'%r' % heavy", "'%(a)s' % {'a': long}",
    "('%d' * 65536) % (number,) * 1", "('%d' * 800) % ((number,) * 800)", "'%f' % number",
    "('%999.99f' * 1000) % ((1e300,) * 1000)", "('%s' * 65536) % tuple",
    *(f"{left} {sign} {right}" for sign in ("==", "!=", "<", "<=", ">", ">=")
        for left, right in (("list", "list + []"), ("[long] * 100", "[long2] * 100"),
            ("nested", "(nested, nested)[0]"), ("numbers", "list"), ("long", "long2"),
            ("set", "set2"), ("same", "same2"), ("samedict", "samedict2"), ("dict", "dict2"),
            ("dict.keys()", "dict2.keys()"), ("{(1, 2)}", "nesteds.items()"),
            ("frozenset({(1, 2)})", "nesteds.items()"), ("{1: 2}.items()", "nesteds.items()"),
            ("(nested, 1)", "(nested, 2)"), ("[nested]", "[nested]"), ("texts", "texts.copy()"),
            ("heavy", "[x for x in heavy]"), ("{1: nested}", "{1: (nested, nested)[0]}"),
            ("range", "range"), ("error", "error"), ("number", "number - 1"), ("wide", "wide"),
            ("manylists", "manylists + []"), ("set", "dict.keys()"), ("same", "samedict2.keys()"),
            ("same", "{x for x in samelist}"), ("data", "data2"), ("1.5", "number"),
            ("samelist", "samelist2"))),
    *(line.format(left=left, right=right)
        for line in (*("{left} %s {right}" % sign for sign in "&|^-"),
            *("x = {left}\nx %s= {right}" % sign for sign in "&|^-+"))
        for left, right in (("set", "set2"), ("halfset", "halfset2"), ("same", "same2"),
            ("same", "same"), ("dict", "dict2"), ("texts", "{}"), ("samedict", "samedict2"),
            ("set", "{1}"), ("{1}", "set"), ("set()", "same"), ("same", "set()"),
            ("frozenset(same)", "same2"), ("dict.keys()", "dict2.keys()"), ("list", "list"),
            ("[]", "list"), ("[]", "range"), ("[]", "dict.items()"), ("()", "tuple"),
            ("''", "long"), ("set()", "set2"))),
    *(f"{left}.{name}({right})" for name in ("difference", "intersection", "isdisjoint",
            "issubset", "issuperset", "symmetric_difference", "union", "update",
            "difference_update", "intersection_update")
        for left, right in (("set", "set2"), ("set", "list"), ("halfset", "halfset2"),
            ("same", "same2"), ("same", "samelist2"), ("frozenset(same)", "same2"),
            ("set()", "nesteds"), ("set", "[nested]"), ("set", "range"), ("set()", "dict.items()"),
            ("same", "same"), ("same", "set()"), ("set()", "same"))),
    "same.copy()", "set.copy()", "dict.copy()", "samedict.copy()", "set.clear()", "dict.clear()",
    "set.add(nested)", "same.add(sameone)", "set.discard(sameone)", "same.remove(sameone)",
    "set.pop()", "dict.popitem()", "dict.get(nested)", "dict.pop(nested)", "dict.setdefault(nested)",
    "samedict.get(sameone)", "samedict.update(samedict2)", "dict.update(dict2)",
    "{}.update(dict)", "{}.update(pairs)", "{}.update(nesteds.items())", "{}.update(**texts)",
    "frozenset(same)", "{*same, *same2}", "{**dict, **dict2}", "{**samedict, **samedict2}",
    "[*list]", "[*range]", "(*list, *list)", "len([*dict.values()])", "{*samelist, *samelist2}",
    "(lambda *x: 1)(*list)", "(lambda **x: 1)(**texts)", "(lambda *x: 1)(*range)",
    "a, *b = list", "*a, b = range", "a, b = iter(list)", "[a for a, b in pairs]",
    "{x: 1 for x in samelist}", "{x for x in samelist}", "{nested}", "{nested: 1}",
    # Texts of values.
    "f'{long}{long}'", "f'{half}{half}'", "f'{error}'", "f'{error!r}'", "f'{heavy}'", "f'{long!r}'",
    "f'{wide!a}'", "f'{astral!r}'", "f'{number}'", "f'{number:b}'", "f'{number:,}'",
    "f'{1e300:999.99f}'", "f'{long:>10}'", "f'{long:.10}'", "f'{lines!r}'", "f'{upper!a}'",
    "f'{number:c}'", "f'{1:{long}}'", "str(error)", "repr(error)", "error.args", "log.info(error)",
    "log.info(long)", "log.info(*list)", "log.info(*[heavy] * 100)", "log.info(*[error] * 100)",
    "log.info(*[number] * 100)",
    "repr(lines)", "ascii(wide)", "ascii(astral)", "repr('\\x00' * 1048576)", "repr(data)",
    "str(data)", "str(datas)", "repr(wides)", "str([data] * 2)", "str({1: long})",
    "raise error", "raise ValueError(long)", "raise ValueError(heavy)", "raise ValueError(nested)",
    "raise KeyError(wide)", "raise ValueError(*list)", "raise ValueError(*[heavy] * 10)",
    "raise ValueError(data)", "raise ValueError(astral)", "raise ValueError([data] * 2)",
    # Items.
    *(f"{box}[{key}]" for box in ("long", "wide", "data", "list", "tuple", "range", "numbers")
        for key in ("::-1", "::2", ":", "1:", "-1", "5:50000", "number", "nested")),
    "dict[nested]", "samedict[sameone]", "del numbers[::2]", "del list[:]", "del numbers[0]",
    "del dict[nested]", "del samedict[sameone]", "{}[nested]", "numbers[0] += 1", "x = {}\nx[nested] = 1", "samedict[sameone] = 1", "x = {1: ''}\nx[1] += long",
    "match list:\n case [*_, 'a']: pass", "match dict:\n case {'a': 1}: pass",
    "match list:\n case ['a', 'b', *_]: pass", "not list", "list is list", "list and dict",
    # Modules.
    *(f"import json\njson.loads({text})" for text in ("json", "jsontexts", "jsonkeys",
        "jsonfloats", "jsondigits", "jsonopen", "jsonlevels", "long", "data", "'[' * 131072",
        "('[' * 90 + ']' * 90)", "('{\"a\":' * 99)", "(b'\\xff' * 131072)", "('\"' * 131072)",
        "('\\\\' * 131072)", "('[\"' + 'a' * 131000 + '\"]')", "' ' * 131072")),
    *(f"import json\njson.dumps({value})" for value in ("heavy", "heavydict", "long", "wide",
        "astral", "manylists", "nested", "numbers", "dict", "[number] * 2000", "[1e300] * 9000",
        "[astral]", "['\\x00' * 1000000]", "{'a': wide}", "wides")),
    "import json\njson.dumps(manylists, indent=16)", "import json\njson.dumps(heavydict, indent=16,"
    " sort_keys=True, separators=('a' * 16, 'b' * 16))", "import json\njson.dumps(wide,"
    " ensure_ascii=False)", "import json\njson.dumps(astral, ensure_ascii=False)",
    "import json\njson.dumps([[[[0] * 9] * 9] * 9] * 9, indent=16)",
    "import json\njson.dumps({str(n): n for n in range(4000)}, indent=16, sort_keys=True)",
    "import json\nx = []\nfor n in range(49): x = [x]\njson.dumps([x] * 190, indent=16)",
    *(f"import hashlib\nhashlib.{name}(data).hexdigest()" for name in ("md5", "sha1", "sha224",
        "sha256", "sha384", "sha512", "blake2b", "blake2s")),
    "import hashlib\nhashlib.new(long)", "import hashlib\nhashlib.new(nested)",
    "import hmac\nhmac.new(data, data).digest()", "import hmac\nhmac.digest(data, data, 'sha512')",
    "import hmac\nhmac.compare_digest(long, long2)", "import hmac\nhmac.compare_digest(wide, wide)",
    "import hmac\nhmac.compare_digest(data, data2)", "import hmac\nhmac.compare_digest(astral, long)",
    *(f"import base64\nbase64.{name}({data})" for name in ("b64encode", "b32encode", "b16encode",
        "urlsafe_b64encode", "b64decode", "b32decode", "b16decode", "urlsafe_b64decode")
        for data in ("data", "base64", "base32", "long", "wide", "spaces", "b'A' * 1000000",
        "b'A' * 65536", "b'MFRG' * 10000")),
    "import base64\nbase64.b64decode(base64, True)", "import base64\nbase64.b64decode(data, True)",
    "import time\ntime.strftime(long)", "import time\ntime.strftime('%Z%c' * 50)",
    "import time\ntime.strftime('a', tuple)", "import time\ntime.gmtime(1e10)",
    "import time\ntime.strftime('%Y', (number,) * 9)",
    *(f"import math\nmath.{name}(number)" for name in ("isqrt", "sqrt", "log", "log2", "floor",
        "ceil", "exp", "sin", "trunc", "degrees", "log10", "gcd", "isfinite")),
    "import math\nmath.gcd(*bigs)", "import math\nmath.gcd(*[number, number - 2] * 50)",
    "import math\nmath.hypot(*floats)", "import math\nmath.pow(number, number)",
    "import math\nmath.hypot(*[number] * 100)", "import math\nmath.fmod(1e308, 5e-324)",
    "import math\nmath.sin(1e308)",
    "import random\nrandom.randint(0, number)", "import random\nrandom.randint(-number, number)",
    "import random\nrandom.choice(list)", "import random\nrandom.choice(range)",
    "import random\nrandom.uniform(number, number)",
    *(f"import urllib.parse\nurllib.parse.{name}({text})" for name in ("quote", "quote_plus",
        "unquote", "unquote_plus", "urlencode", "parse_qs", "parse_qsl", "urlsplit")
        for text in ("url", "url2", "signs", "long", "subject", "fields", "pairs", "wide", "data",
        "'http://' + '[' * 60000", "'http://[' + ':' * 60000 + ']'", "'a:' * 30000",
        "'http://' + '@' * 60000", "'http://a/' + '\\n' * 60000", "'//' + signs",
        "'=' * 60000", "';' * 60000", "'+' * 60000", "{'a': nested}", "{'a': [long]}",
        "{'a': number}", "{long: 1}", "'%e4' * 20000", "b'%e4' * 20000", "'\u20ac%' * 20000",
        "'http://' + '\u2100' * 60000", "'http://a:' + '9' * 60000", "'9' * 60000 + ':'"
        )),
    "import urllib.parse\nurllib.parse.urlencode({'a': heavy}, True)",
    "import urllib.parse\nurllib.parse.urlencode([(long, 1)])",
    "import urllib.parse\nurllib.parse.urlencode([('a', number)] * 999)",
    "import ipaddress\nipaddress.ip_address('1' * 100)", "import ipaddress\nipaddress.ip_address(long)",
    "import ipaddress\nipaddress.ip_network('::/' + '1' * 90)",
    "import ipaddress\nipaddress.ip_network('1.1.1.1/' + '1' * 90)",
    # Regular expressions.
    *(f"import re\nre.{name}({pattern}, {text})" for name in ("search", "match", "fullmatch",
        "findall", "finditer", "split")
        for pattern, text in (("groups", "subject2"), ("groups", "'a' * 500"), ("groups", "''"),
            ("stars", "subject2"), ("stars", "'a' * 900 + 'b'"), ("dots", "subject2"),
            ("dots", "'a' * 300"), ("classes", "subject2"), ("repeats", "subject2"),
            ("'a'", "subject"), ("''", "subject"), ("'(a)(a)'", "subject"), ("'(a?){50}'", "subject"),
            ("'(a|b|ab)*c'", "subject"), ("'(x+x+)+y'", "subject"), ("'a{1000}'", "subject"),
            ("'(.)(.)(.)(.)(.)(.)(.)(.)'", "subject"), ("'.*?,'", "subject"), ("'[^a]'", "subject"),
            ("'(?i)\\\\pL+'", "subject"), ("'()' * 100 + 'a'", "'a' * 5000"),
            ("'(a?)' * 90 + 'a' * 90", "'a' * 1000"), ("'(a*)' * 20", "'a' * 10000"),
            ("'()' * 30 + 'a*'", "'a' * 16000"), ("'((((((((((a))))))))))*'", "'a' * 20000"),
            ("'(' * 400 + ')' * 400", "subject2"), ("'((a)|(b)|(c)|(d))*$'", "subject"),
            ("'(?:' * 300 + ')' * 300", "subject2"), ("'a?' * 500", "'a' * 500"),
            ("'(\\\\pL)' * 100", "'a' * 1000"), ("'[\\\\pL\\\\pN]{50}'", "'a' * 900"),
            ("'(.{0,500}){1}b'", "'a' * 1000"), ("'(?:a|(?:b|(c)))+' * 50", "'abc' * 300"))),
    "import re\nre.sub('a', 'b', subject)", "import re\nre.sub('', 'b', subject)",
    "import re\nre.sub('(a)', '\\\\1\\\\1', subject)", "import re\nre.sub('a', long, subject)",
    "import re\nre.sub('', '\\\\0' * 300, subject)", "import re\nre.sub('(a)', '\\\\1' * 300, subject)",
    "import re\nre.sub('a', lambda m: 'b', subject)", "import re\nre.sub(long, 'b', 'a')",
    "import re\nre.sub('a', lambda m: long, subject)",
    "import re\nre.compile('(a)' * 300)", "import re\nre.escape(subject)", "import re\nre.escape(lines)",
    "import re\nre.escape('\u4e00' * 65536)", "import re\nre.compile(stars)", "import re\nre.compile(dots)",
    "import re\nre.compile(repeats)", "import re\nre.compile(classes)", "import re\nre.compile(classes, 2)",
    "import re\nre.compile('(?i)' + '[\\\\pL\\\\pM\\\\pN]' * 60)", "import re\nre.compile('[' + '\u4e00-\u9fff' * 300 + ']')",
    "import re\nre.compile('(' * 1000)", "import re\nre.compile('a' * 1000)",
    "import re\nre.compile('|'.join(['a' * n for n in range(43)]))",
    "import re\nre.compile('(?i)' + '[^\u4e00]' * 150)", "import re\nre.compile('.{900}')",
    "import re\nre.compile('((((.{9}){9}){9}))')", "import re\nre.compile('[a-z]{1000}')",
    "import re\nre.compile('(?:' * 300 + 'a' + '){0,2}' * 100)", "import re\nre.compile('x{1000}{1000}')",
    "import re\nre.compile('(?:\\\\pL{30}){30}')", "import re\nre.compile('\\\\pL{999}')",
    "import re\nm = re.search(groups, '')\nm.groups()", "import re\nm = re.search('a*', subject)\nm.group(0)",
    "import re\nm = re.search('(?P<a>a)', subject)\nm.groupdict()",
    "import re\nm = re.search('(a)', subject)\nm.group(*[1] * 65536)",
    "import re\nm = re.search('a', subject)\nm[nested]", "import re\nm = re.search('a', subject)\nm.start(nested)",
    "import re\nm = re.search('a', subject)\nm.groupdict(nested)",
    # The request.
    *(f"request.{line}" for line in ("host = long", "path = long", "path = '/' + long", "uri = long",
        "query_string = long", "query_string = wide", "path = '/' + half", "method = long",
        "hash_key = long", "upstream = long", "cluster_key = list", "cluster_key = tuple",
        "reject(403, long)", "respond(200, long)", "respond(200, wide)", "respond(200, '', dict)",
        "respond(200, '', texts)", "respond(200, '', {'a': list})", "respond(200, '', {'a': long})",
        "respond(200, '', shorts)", "respond(200, '', pairs)", "redirect(long)", "redirect(wide)",
        "redirect('/' + half)", "exit(long)", "headers.get(long)", "headers.set('a', long)",
        "headers.set('a', list)", "headers.update(texts)", "headers.update(dict)",
        "headers.update(shorts)", "headers.update(list)", "headers.update(long)",
        "headers.update(range)", "headers.add('a', wide)", "headers.get_all(long)",
        "headers.set('host', long)", "headers.setdefault('a', long)", "headers.pop(long)",
        "headers[long] = 'a'", "query.get(long)", "query.set('a', long)", "query.set('a', list)",
        "query.add(long, 'a')", "query.update(texts)", "query.update(dict)", "query['a'] = list",
        "query['a'] = nested", "query.get_all(nested)", "context['x'] = nested",
        "respond(200, '', nesteds)", "respond(200, '', range)", "respond(200, '', dict.items())",
        "headers.update(dict.items())", "headers.set('X-Forwarded-For', long)",
        "query.update(shorts)", "query.update(range)", "query.pop(nested)",
        "headers.set('a', ' ' * 1048576)", "path = '/' + wide", "redirect(signs)")),
    "long in request.headers", "nested in request.headers", "long in request.query",
    "nested in request.query", "request.headers == list", "list == request.headers",
    "errno.make(400, long)", "errno.make(long, 'a')", "settings[long]", "long in settings",
    "nested in settings", "settings.get(nested)",
]  # fmt: skip

#: Each once.
CALLS: Final = list(dict.fromkeys(_ALL))
