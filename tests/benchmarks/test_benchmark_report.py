"""The report has what was measured, and names what was not."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from benchmark_samples import full_results, sample

from benchmarks.figures import Spread
from benchmarks.memory import MemoryUse
from benchmarks.picture import draw
from benchmarks.report import brief, markdown, number, spread_text
from benchmarks.results import Results

#: Of a handshake, in microseconds.
COSTS = {"slardar": 400.0, "nginx-lua": 200.0}
SVG = "{http://www.w3.org/2000/svg}"


def test_numbers_have_three_digits() -> None:
    """Three digits are enough to compare, and noise allows no more."""
    assert [number(value) for value in (0.123, 1.016, 15.04, 1234.6)] == [
        "0.12",
        "1.02",
        "15.0",
        "1,235",
    ]


def test_spread_shows_range_only_if_there_is_one() -> None:
    """One round has no range."""
    assert spread_text(Spread(1.0, 0.9, 1.2)) == "1.00 (0.90 to 1.20)"
    assert spread_text(Spread(5.0, 5.0, 5.0), "ms") == "5.00 ms"
    assert spread_text(None) == "-"


def test_report_states_a_miss() -> None:
    """A figure above its target is called missed, in its own row."""
    results = Results({}, 1, 3, [sample("slardar", cpu_us=16.0), sample("nginx-lua")])
    row = next(line for line in markdown(results, None).splitlines() if "small keep-alive" in line)
    assert row.endswith("| 1.60 | **missed** |")


def test_report_states_what_is_missing() -> None:
    """A proxy that is not installed has a line that says so, and no row."""
    results = full_results()
    results.problems.append("Caddy is not installed.")
    text = markdown(results, "results.svg")
    assert "- Caddy is not installed." in text
    assert "| Caddy |" not in text
    assert "](results.svg)" in text


def test_disturbed_runs_are_counted() -> None:
    """The reader learns how quiet the machine was."""
    results = full_results()
    noisy = sample("slardar", 2)
    object.__setattr__(noisy, "other_share", 0.4)
    results.samples.append(noisy)
    assert "In 1 of 13 runs something else used more than 10%" in markdown(results, None)


def test_memory_of_a_proxy_that_was_stopped() -> None:
    """A proxy without bounds is shown as such, not by the size at which it was stopped."""
    results = full_results()
    results.memory.append(MemoryUse("download", "twisted", 50.0, 1100.0, 0.9, cut=True))
    assert "| ReverseProxyResource | 52.4 | more than 1,101, stopped | 0.90 |" in markdown(
        results, None
    )


def test_results_survive_the_file(tmp_path: Path) -> None:
    """Saved results are equal when they are read back, so that the report can be written again."""
    results = full_results()
    results.memory.append(MemoryUse("memory", "slardar", 40.0, 45.0))
    path = tmp_path / "results.json"
    results.save(path)
    assert Results.load(path) == results


def test_brief_names_only_what_was_measured() -> None:
    """A quick run has a short report."""
    text = brief(full_results())
    assert "CPU per small keep-alive request, ratio to nginx+Lua: 1.19 (1.18 to 1.20)" in text
    assert "64 KiB" not in text


def test_times_cheaper_is_the_inverse_ratio() -> None:
    """ReverseProxyResource's cost divided by slardar's."""
    found = full_results().value_of("times_cheaper")
    assert found is not None
    assert 23 < found.median < 25.1


def test_rate_of_handshakes_is_the_inverse_cost() -> None:
    """A proxy that takes twice the time makes half as many on a core."""
    samples = [sample(proxy, 0, cost, "handshakes") for proxy, cost in COSTS.items()]
    results = Results({}, 1, 3, samples)
    assert results.value_of("handshakes") == Spread(0.5, 0.5, 0.5)
    text = markdown(results, None)
    assert "| 0.50 | **missed** |" in text
    assert "| CPU µs/handshake |" in text
    drawing = draw(results)
    assert drawing is not None
    assert "target 1.43" in drawing, "it draws costs"


def test_picture_has_a_panel_a_load_and_a_dot_a_proxy() -> None:
    """It is well-formed, and every dot lies on the sheet."""
    drawing = draw(full_results())
    assert drawing is not None
    sheet = ElementTree.fromstring(drawing)
    dots = list(sheet.iter(f"{SVG}circle"))
    assert len(dots) == 6
    width, height = float(sheet.attrib["width"]), float(sheet.attrib["height"])
    assert all(0 < float(dot.attrib["cx"]) < width for dot in dots)
    assert all(0 < float(dot.attrib["cy"]) < height for dot in dots)
    assert "prefers-color-scheme: dark" in drawing


def test_no_picture_without_reference() -> None:
    """There is nothing to draw ratios from."""
    assert draw(Results({}, 1, 3, [sample("slardar")])) is None
