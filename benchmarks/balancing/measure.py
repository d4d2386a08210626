"""Measures everything in one process, and writes it into a file as JSON.

:mod:`benchmarks.balance` runs ``python -m benchmarks.balancing.measure FILE [--quick]`` in a
process that imports the compiled slardar.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.balancing.keys import Keys, bounded, moves, owners, spread
from benchmarks.balancing.live import LIVE, compare
from benchmarks.balancing.modes import MODES, Mode, balancer, peers
from benchmarks.balancing.picks import pick_time
from benchmarks.balancing.scenes import GUARDS, HERD, Load, crowd, herd, one_errs, one_slow
from slardar.build import describe_build

__all__ = ["measure"]

_HASH = Mode("hash", "url_hash")
_MAGLEV = Mode("maglev", "maglev")
_LARGE = Mode("maglev, table 655,373", "maglev", {"table": 655_373})


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(quick: bool) -> dict[str, Any]:
    """All figures; ``quick``: a tenth of the requests and keys, and fewer servers."""
    part = 10 if quick else 1
    begin = time.process_time()
    found: dict[str, Any] = {"build": describe_build(), "quick": quick}
    found["picks"] = {
        mode.title: {
            str(count): pick_time(mode, count, 40 // part)._asdict() for count in (100, 10_000)
        }
        for mode in MODES
    }
    say("picks are timed")
    found.update(_keys(part))
    say("keys are counted")
    many = 1000 // part
    found["many"] = many
    found["crowd"] = {mode.title: crowd(mode, many, Load(1.5))._asdict() for mode in MODES}
    say("the crowd is simulated")
    load = Load(30 / part)
    guards: dict[str, dict[str, Any]] = {"slow": {}, "slow_outlier": {"outlier": {}}}
    for name, keys in guards.items():
        found[name] = {mode.title: one_slow(mode, load, keys)._asdict() for mode in MODES}
        say(f"{name} is simulated")
    found["errors"] = {
        mode.title: {guard: one_errs(mode, Load(15 / part), guard)._asdict() for guard in GUARDS}
        for mode in MODES
    }
    say("errors are simulated")
    seconds = 20 if quick else 45
    found["herd"] = {name: herd(keys, seconds)._asdict() for name, keys in HERD.items()}
    say("the herd is through")
    found["live"] = {}
    for name, keys in LIVE.items():
        with tempfile.TemporaryDirectory() as folder:
            found["live"][name] = compare(keys, 2000 // part, Path(folder))._asdict()
    found["live_requests"] = 2000 // part
    found["cpu_seconds"] = time.process_time() - begin
    return found


def _keys(part: int) -> dict[str, Any]:
    keys, fewer = Keys(10_000_000 // part), Keys(1_000_000 // part)
    found: dict[str, Any] = {"keys": keys.count, "fewer_keys": fewer.count}
    spreads: dict[str, dict[str, float]] = {}
    moved: dict[str, dict[str, Any]] = {}
    counts_of = {_HASH.title: (10, 100, 1000), _MAGLEV.title: (10, 100, 1000)}
    for mode in (_HASH, _MAGLEV, _LARGE):
        counts = counts_of.get(mode.title, (100, 1000))
        spreads[mode.title], moved[mode.title] = {}, {}
        for count in counts:
            if part > 1 and count == 1000:
                continue
            servers = peers(count)
            owned = owners(mode, balancer(mode, servers), servers)
            spreads[mode.title][str(count)] = spread(keys, mode, owned, count)
            if count == 100:
                spreads[mode.title]["fewer"] = spread(fewer, mode, owned, count)
            # Of the hash no other key moves, whichever server goes.
            samples = 5 if mode is _MAGLEV else 1
            moved[mode.title][str(count)] = moves(keys, mode, count, samples)._asdict()
        say(f"keys: {mode.title}")
    found["spread"], found["moves"] = spreads, moved
    found["bounded"] = {
        mode.title: {
            name: bounded(mode, 100, requests // part, 10_000 // part, skew)._asdict()
            for name, requests, skew in (("even", 1_000_000, 0.0), ("skewed", 300_000, 1.1))
        }
        for mode in MODES
        if mode.mode in ("url_hash", "maglev")
    }
    return found


def main() -> int:
    """Measure, and write the file."""
    path, *options = sys.argv[1:]
    Path(path).write_text(json.dumps(measure("--quick" in options), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
