"""Changed heads for some seconds: ``python -m tests.http1.fuzz EXTENSION SECONDS [SEED]``.

Every head goes through both forms of the parser, whole and cut, with bytes behind it, and what is
read is written. ``scripts/sanitize_native`` runs this with an extension that looks for faults of
memory.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from time import monotonic
from types import ModuleType

from tests.http1.native import NAME, load


def try_heads(native: ModuleType, until: float, seed: int) -> tuple[int, int]:
    """How many heads were tried, and how many of them were read by the extension."""
    from slardar.http1 import scan
    from tests.http1.mutations import REPLIES, REQUESTS, check_reply, check_request, heads

    assert scan.scan_request is native.scan_request
    dice = random.Random(seed)
    requests, replies = heads(REQUESTS, seed), heads(REPLIES, seed)
    tried = read = 0
    while tried % 100 or monotonic() < until:
        for made, check, look in (
            (requests, check_request, native.scan_request),
            (replies, check_reply, native.scan_reply),
        ):
            head = next(made)
            tried += 1
            try:
                read += check(head)
                look(head[: dice.randint(0, len(head))])
                look(head + dice.randbytes(dice.randint(0, 20)))
                look(dice.randbytes(dice.randint(0, 60)))
            except Exception:
                print(f"head {tried} of {seed}: {head!r}", file=sys.stderr)
                raise
        pieces = [dice.randbytes(dice.choice((0, 1, 8, 500, 9000))) for _ in range(9)]
        assert native.write_request(*pieces) == scan._write_request(*pieces)
        name = dice.choice((b"x", b"host", b"x-forwarded-for", dice.randbytes(3).lower()))
        for block in (head, head[: dice.randint(0, len(head))]):
            assert native.find_value(block, name) == scan._find_value(block, name)
            assert native.find_values(block, name) == scan._find_values(block, name)
            assert native.count_lines(block) == scan._count_lines(block)
            made = b"\r\n" + head[dice.randint(0, len(head)) :]
            put = (block, name, made, dice.randint(0, 30), dice.randint(0, 2 * len(head)))
            assert native.put_lines(*put) == scan._put_lines(*put)
        length, size = dice.choice((-2, -1, 0, dice.randrange(1 << 64))), len(pieces[2]) // 2
        written = (pieces[0], length, *pieces[1:3], size)
        assert native.write_reply(*written) == scan._write_reply(*written)
    return tried, read


def main() -> None:
    """Run as a program."""
    file, seconds, *more = sys.argv[1:]
    seed = int(more[0]) if more else random.randrange(1 << 32)
    sys.modules[NAME] = native = load(Path(file))
    tried, read = try_heads(native, monotonic() + float(seconds), seed)
    print(f"{tried} heads, {read} of them read in C, no fault (seed {seed})")


if __name__ == "__main__":
    main()
