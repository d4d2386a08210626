"""The dashboard in a real browser, with a real slardar and real traffic.

The file is long because the tests share one browser, one slardar and its traffic: to start these
takes longer than most of the tests.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import pytest
from playwright.sync_api import Route, expect

from tests.browser import Browser
from tests.integration.conftest import Start
from tests.integration.dashboard import Dashboard, barriers, begin, numbers_in, servers
from tests.integration.live import Live
from tests.integration.programs import Slardar
from tests.integration.upgrades import Upgraded

HOOK = "python/script.hook.example"
#: Two versions of a hook; the second one answers some requests itself.
FIRST = "def on_request(request):\n    request.headers['X-Seen'] = 'yes'\n"
SECOND = FIRST + "    if request.path == '/old':\n        return request.redirect('/new', 301)\n"
OFF = {"enable": False}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    """Servers and clients."""
    with Live() as live:
        yield live


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests: each has a page of its own."""
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, live: Live) -> Iterator[Slardar]:
    """A slardar with an upstream for each test that changes one, and some traffic."""
    names = ("drain", "weight", "add", "remove", "moved", "keys", "enter")
    upstreams: dict[str, Any] = {
        name: {"servers": servers("127.0.0.1:1", "127.0.0.1:2"), **OFF} for name in names
    }
    upstreams["busy.example"] = {
        "servers": servers(live.server(0.02), live.server(0.02, 0.5)),
        **OFF,
    }
    upstreams["hook.example"] = {"servers": servers(live.server()), **OFF}
    settings = {"upstreams": upstreams, "default_upstream": None}
    slardar = begin(tmp_path_factory.mktemp("world") / "slardar", settings, "--workers", "1")
    live.traffic(slardar.port, "busy.example", 80)
    live.traffic(slardar.port, "hook.example", 20)
    live.traffic(slardar.port, "hook.example", 20, "/old")
    live.traffic(slardar.port, "unknown.example", 10)
    yield slardar
    slardar.end()


@pytest.fixture
def dashboard(chromium: Browser, world: Slardar) -> Iterator[Dashboard]:
    """A page of the world, about which the browser has nothing to complain."""
    chromium.complaints.clear()
    dashboard = Dashboard(chromium, world)
    yield dashboard.open()
    dashboard.page.context.close()
    # Calls that may well fail are told as errors, too.
    assert [one for one in chromium.complaints if "Failed to load resource" not in one] == []


def stored(slardar: Slardar, name: str) -> dict[str, dict[str, Any]]:
    """The servers of an upstream by address, as slardar has them."""
    _, value = slardar.call("GET", f"/upstream/{name}")
    return {f"{one['host']}:{one['port']}": one for one in value["servers"]}


# What is shown.


def test_traffic(dashboard: Dashboard) -> None:
    """Rates, errors and latencies, of all and of each; and the picture of what flows."""
    page = dashboard.page
    row = dashboard.unfold("busy.example")
    # Three samples.
    expect(page.locator("#tile-requests .line")).to_have_attribute("d", re.compile("L.*L"))
    (rate,) = numbers_in(row.locator(".row .requests .value").inner_text())
    assert 10 < rate < 80
    (share,) = numbers_in(row.locator(".row .errors .value").inner_text())
    assert 10 < share < 40
    (middle,) = numbers_in(row.locator(".row .p50 .value").inner_text())
    assert 10 < middle < 100
    good, bad = row.locator(".server:not(.columns)").all()
    assert numbers_in(good.locator(".errors").inner_text()) == [0]
    assert numbers_in(bad.locator(".errors").inner_text())[-1] > 20
    assert numbers_in(good.locator(".p99").inner_text())[-1] > 10
    assert numbers_in(page.locator("#tile-requests dd").inner_text())[0] > rate
    picture = page.locator("#flow-picture")
    for word in ("busy.example", "hook.example", "no upstream", "Clients"):
        expect(picture).to_contain_text(word)
    assert "busy.example" in str(picture.get_attribute("aria-label"))
    assert picture.locator(".ribbon:not(.idle)").count() >= 6


def test_process(dashboard: Dashboard) -> None:
    """Workers, generations and the store; certificates once slardar tells of them."""
    page = dashboard.page
    expect(page.locator("#workers tbody tr")).to_have_count(1)
    expect(page.locator("#workers")).to_contain_text("alive")
    expect(page.locator("#generations")).to_contain_text(str(dashboard.slardar.pid))
    expect(page.locator("#store-facts")).to_contain_text("sqlite:slardar.db")
    page.route("**/certificates", lambda route: route.fulfill(status=404, json={"msg": "none"}))
    dashboard.open()
    dashboard.link("Live")
    expect(page.locator("#certificates")).to_be_hidden()
    told = [{"name": "a", "names": ["a.example", "b.example"], "issuer": "R3", "from": "file",
             "expires": "2020-01-01 00:00:00"}]  # fmt: skip
    page.unroute("**/certificates")
    page.route("**/certificates", lambda route: route.fulfill(json=told))
    dashboard.open()
    row = page.locator("#certificates tbody tr")
    expect(row).to_contain_text("a.example, b.example")
    expect(row).to_contain_text("expired")


# What is changed.


def test_drain_and_bring_back(dashboard: Dashboard) -> None:
    """The difference comes first, and every worker serves the change when the dialog closes."""
    server = dashboard.server("drain", "127.0.0.1:2")
    server.get_by_role("button", name="Drain 127.0.0.1:2").click()
    dashboard.confirm("Drain it", '+     {"host": "127.0.0.1", "port": 2', '"state": "drain"')
    assert stored(dashboard.slardar, "drain")["127.0.0.1:2"]["state"] == "drain"
    dashboard.said("127.0.0.1:2 is draining")
    expect(server.locator(".state")).to_contain_text("draining")
    server.get_by_role("button", name="Bring back 127.0.0.1:2").click()
    dashboard.confirm("Bring it back", '-     {"host": "127.0.0.1", "port": 2')
    assert stored(dashboard.slardar, "drain")["127.0.0.1:2"].get("state", "up") == "up"
    expect(server.locator(".state")).to_contain_text("unchecked")


def test_weight(dashboard: Dashboard) -> None:
    """A wrong one cannot be confirmed, and one that changes nothing neither."""
    dashboard.server("weight", "127.0.0.1:1").get_by_role("button", name="Weight").click()
    weight = dashboard.dialog.get_by_label("Weight")
    go = dashboard.dialog.get_by_role("button", name="Change the weight")
    expect(dashboard.dialog.get_by_role("alert")).to_have_text("This changes nothing.")
    expect(go).to_be_disabled()
    weight.fill("-3")
    expect(dashboard.dialog.get_by_role("alert")).to_contain_text("a whole number")
    weight.fill("7")
    dashboard.confirm("Change the weight", '"weight": 7')
    assert stored(dashboard.slardar, "weight")["127.0.0.1:1"]["weight"] == 7
    server = dashboard.server("weight", "127.0.0.1:1")
    expect(server.locator(".weight .value")).to_have_text("7")


def test_enter_confirms_what_is_shown(dashboard: Dashboard) -> None:
    """Enter is the button: it does nothing before the difference of what was typed is shown."""
    dashboard.server("enter", "127.0.0.1:1").get_by_role("button", name="Weight").click()
    dashboard.dialog.get_by_label("Weight").fill("7")
    expect(dashboard.dialog.locator(".diff")).to_contain_text('"weight": 7')
    # Asked for and not answered yet: what is shown is still the difference of 7.
    asked: list[Route] = []
    dashboard.page.route("**/upstream/enter", lambda route: asked.append(route))
    with dashboard.page.expect_request("**/upstream/enter"):
        dashboard.page.keyboard.press("Control+a")
        dashboard.page.keyboard.type("70")
        dashboard.page.keyboard.press("Enter")
    assert stored(dashboard.slardar, "enter")["127.0.0.1:1"]["weight"] == 1
    expect(dashboard.dialog.locator(".diff")).to_contain_text('"weight": 7,')
    for route in asked:
        route.continue_()
    dashboard.page.unroute("**/upstream/enter")
    expect(dashboard.dialog.locator(".diff")).to_contain_text('"weight": 70')
    dashboard.page.keyboard.press("Enter")
    dashboard.said("has the weight 70")
    dashboard.unfold("enter").get_by_role("button", name="Add a server").click()
    dashboard.dialog.get_by_label("Address").fill("127.0.0.1:3")
    expect(dashboard.dialog.locator(".diff")).to_contain_text('"port": 3')
    dashboard.page.keyboard.press("Enter")
    dashboard.said("127.0.0.1:3 is added")
    assert len(stored(dashboard.slardar, "enter")) == 3


def test_add_and_remove(dashboard: Dashboard) -> None:
    """A server comes, and goes again."""
    dashboard.unfold("add").get_by_role("button", name="Add a server").click()
    dashboard.dialog.get_by_label("Address").fill("nonsense")
    expect(dashboard.dialog.get_by_role("alert")).to_contain_text("such as 10.0.0.1:8080")
    dashboard.dialog.get_by_label("Address").fill("[::1]:9000")
    dashboard.dialog.get_by_label("Weight").fill("3")
    # The comma behind the last server is no change of that server.
    expect(dashboard.dialog.locator(".diff .added")).to_have_count(1)
    expect(dashboard.dialog.locator(".diff .removed")).to_have_count(0)
    dashboard.confirm("Add it", '+     {"host": "::1", "port": 9000, "weight": 3}')
    server = dashboard.server("add", "[::1]:9000")
    expect(server).to_be_visible()
    server.get_by_role("button", name="Remove").click()
    dashboard.confirm("Remove it", '-     {"host": "::1"')
    expect(server).to_have_count(0)
    assert set(stored(dashboard.slardar, "add")) == {"127.0.0.1:1", "127.0.0.1:2"}


def test_somebody_else_was_faster(dashboard: Dashboard) -> None:
    """What is confirmed is what was shown: else the difference is shown anew."""
    dashboard.server("moved", "127.0.0.1:1").get_by_role("button", name="Drain").click()
    expect(dashboard.dialog.locator(".diff")).to_contain_text("drain")
    dashboard.slardar.call("PATCH", "/upstream/moved/127.0.0.1:1", {"weight": 9})
    dashboard.dialog.get_by_role("button", name="Drain it").click()
    expect(dashboard.dialog.get_by_role("alert")).to_contain_text("has changed meanwhile")
    assert "state" not in stored(dashboard.slardar, "moved")["127.0.0.1:1"]
    dashboard.confirm("Drain it", '"weight": 9')
    assert stored(dashboard.slardar, "moved")["127.0.0.1:1"]["state"] == "drain"


def test_hook(dashboard: Dashboard) -> None:
    """Staged and activated, compared in the shadow, activated, and rolled back."""
    page = dashboard.page
    page.get_by_role("button", name="Stage a hook").click()
    dashboard.dialog.get_by_label("Name").fill("script.hook.example")
    dashboard.dialog.get_by_label("Code").fill("def on_request(request:\n")
    dashboard.dialog.get_by_role("button", name="Stage it").click()
    expect(dashboard.dialog.get_by_role("alert")).to_contain_text("line 1")
    dashboard.dialog.get_by_label("Code").fill(FIRST)
    dashboard.confirm("Stage it", "+ def on_request(request):")
    hook = dashboard.hook(HOOK)
    expect(hook).to_contain_text("not in service")
    hook.get_by_role("button", name="Activate").click()
    dashboard.confirm("Activate it", "X-Seen")
    expect(hook.locator(".chip")).to_have_text("active")

    hook.get_by_role("button", name="Stage").click()
    expect(dashboard.dialog.get_by_label("Code")).to_have_value(FIRST)
    dashboard.dialog.get_by_label("Code").fill(SECOND)
    dashboard.dialog.get_by_label("in the shadow").check()
    dashboard.confirm("Stage it", "+     if request.path == '/old':")
    expect(hook.locator(".shadow")).to_contain_text("requests differ")
    expect(hook.locator(".shadow strong")).to_have_text(re.compile(r"^(\d\d+|[4-9]) of"))
    differ, compared = numbers_in(hook.locator(".shadow strong").inner_text())
    assert 0 < differ < compared
    hook.locator("summary").click()
    expect(hook.locator("details")).to_contain_text("/old")
    expect(hook.locator("details .diff").first).to_contain_text("301")

    hook.get_by_role("button", name="Activate").click()
    dashboard.confirm("Activate it", "+         return request.redirect('/new', 301)")
    dashboard.said("In service")
    assert dashboard.slardar.get("hook.example", "/old")[0] == 301
    hook.get_by_role("button", name="Roll back").click()
    dashboard.confirm("Roll it back", "-         return request.redirect('/new', 301)")
    dashboard.said("Rolled back")
    assert dashboard.slardar.get("hook.example", "/old")[0] == 200


def test_hook_that_fails(dashboard: Dashboard) -> None:
    """All of its requests fail, which no upstream shows: so the page says it at its top."""
    slardar = dashboard.slardar
    expect(dashboard.page.locator("#hook-trouble")).to_be_hidden()
    code = "def on_request(request):\n    raise ValueError('no')\n"
    assert slardar.call("POST", "/python/script.fails.example?activate=1", code)[0] == 200
    for _ in range(5):
        assert slardar.get("fails.example")[0] == 500
    told = dashboard.page.locator("#hook-trouble")
    expect(told).to_have_text("Hook python/script.fails.example does not run: it is suspended.")
    hook = dashboard.hook("python/script.fails.example")
    expect(hook.locator(".message").first).to_contain_text("it failed too often")
    assert slardar.call("DELETE", "/python/script.fails.example")[0] == 200
    expect(told).to_be_hidden()


def test_roll_back(dashboard: Dashboard) -> None:
    """The whole configuration goes back to what it was at a version."""
    dashboard.slardar.call("PATCH", "/upstream/moved/127.0.0.1:2", {"weight": 2})
    _, status = dashboard.slardar.call("GET", "/status")
    before = status["shd_config_version"]
    servers_of = {"servers": servers("127.0.0.1:5"), **OFF}
    dashboard.slardar.call("PUT", "/upstream/late.example", servers_of)
    expect(dashboard.upstream("late.example")).to_be_visible()
    change = dashboard.page.locator(f'#history-list [data-version="{before + 1}"]')
    expect(change).to_contain_text("upstream late.example")
    expect(change.get_by_role("button", name="Roll back")).to_be_hidden()
    expect(dashboard.page.locator("#event-list")).to_contain_text("upstream late.example")
    entry = dashboard.page.locator(f'#history-list [data-version="{before}"]')
    entry.get_by_role("button", name="Roll back").click()
    dashboard.confirm("Go back", "- upstreams late.example")
    dashboard.said(f"Back at version {before}")
    expect(dashboard.upstream("late.example")).to_have_count(0)
    assert dashboard.slardar.call("GET", "/upstream/late.example")[0] == 404


def test_roll_back_of_what_the_page_does_not_know(dashboard: Dashboard) -> None:
    """What another one has changed a moment ago is in the difference, too."""
    page, slardar = dashboard.page, dashboard.slardar
    servers_of = {"servers": servers("127.0.0.1:5"), **OFF}
    slardar.call("PUT", "/upstream/first.example", servers_of)
    _, status = slardar.call("GET", "/status")
    before = status["shd_config_version"]
    slardar.call("PUT", "/upstream/known.example", servers_of)
    expect(page.locator(f'#history-list [data-version="{before + 1}"]')).to_be_visible()
    entry = page.locator(f'#history-list [data-version="{before}"]')
    back = entry.get_by_role("button", name="Roll back")
    # It is hidden as long as the page takes this version to be the one in service.
    expect(back).to_be_visible()
    page.route("**/overview*", lambda route: route.abort())
    slardar.call("PUT", "/upstream/unknown.example", servers_of)
    back.click()
    dashboard.confirm("Go back", "- upstreams known.example", "- upstreams unknown.example")
    assert slardar.call("GET", "/upstream/unknown.example")[0] == 404
    slardar.call("DELETE", "/upstream/first.example")


def test_explain(dashboard: Dashboard) -> None:
    """A pasted URL: the decision is drawn, with those that did not get the request."""
    page = dashboard.page
    page.get_by_label("URL").fill("https://busy.example/a?b=1")
    page.get_by_role("button", name="Explain", exact=True).click()
    steps = page.locator(".steps")
    for word in ("GET busy.example/a?b=1", "by its Host", "wrr"):
        expect(steps).to_contain_text(word)
    chosen = steps.locator(".chosen strong").inner_text()
    expect(page.locator(".candidates .chosen")).to_contain_text(chosen)
    expect(page.locator(".candidates li")).to_have_count(2)
    page.get_by_label("URL").fill("nowhere.example")
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(steps.locator(".bad")).to_contain_text("502")
    page.get_by_label("URL").fill("http://[")
    page.get_by_role("button", name="Explain", exact=True).click()
    expect(page.locator("#explain-answer")).to_contain_text("Paste a URL")


# Who looks.


TOKENS = [
    {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest(), **rest}
    for name, role, rest in (
        ("chief", "admin", {}),
        ("guest", "read", {}),
        ("team", "admin", {"names": ["a.example"]}),
    )
]


def test_tokens(chromium: Browser, tmp_path: Path, start: Start) -> None:
    """The page asks for one, keeps it in memory alone, and offers what it allows."""
    upstreams = {
        name: {"servers": servers("127.0.0.1:1", "127.0.0.1:2"), **OFF}
        for name in ("a.example", "b.example")
    }
    settings = {"upstreams": upstreams, "control": {"tokens": TOKENS}}
    slardar = start(begin(tmp_path / "slardar", settings))
    dashboard = Dashboard(chromium, slardar)
    page = dashboard.page

    def login(token: str) -> None:
        dashboard.goto()
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Log in").click()

    dashboard.goto()
    expect(page.get_by_label("Token")).to_be_focused()
    assert list(barriers(page)) == []
    login("wrong")
    expect(page.get_by_role("alert")).to_have_text("No such token.")
    login("chief")
    server = dashboard.server("a.example", "127.0.0.1:2")
    server.get_by_role("button", name="Drain").click()
    dashboard.confirm("Drain it")
    dashboard.link("Live")
    expect(page.locator("#history-list")).to_contain_text("chief from 127.0.0.1")
    kept = "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])"
    assert "chief" not in page.evaluate(kept)
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    assert "a.example" not in page.content()

    login("guest")
    expect(page.locator("#read-only")).to_contain_text("the role admin")
    expect(dashboard.server("a.example", "127.0.0.1:2").locator(".state")).to_be_visible()
    for word in ("Drain", "Weight", "Remove", "Add a server", "Stage", "Roll back"):
        assert page.get_by_role("button", name=word).count() == 0, word

    login("team")
    expect(page.locator("#upstream-count")).to_have_text("1 upstream")
    expect(page.locator("#history")).to_be_hidden()
    expect(page.locator("#process")).to_be_hidden()
    dashboard.server("a.example", "127.0.0.1:2").get_by_role("button", name="Bring back").click()
    dashboard.confirm("Bring it back")
    page.context.close()


def test_token_is_taken_away(chromium: Browser, tmp_path: Path, start: Start) -> None:
    """The page is as new: it asks for a token, and shows nothing of what the last one saw."""
    upstreams = {"a.example": {"servers": servers("127.0.0.1:1", "127.0.0.1:2"), **OFF}}
    settings = {"upstreams": upstreams, "control": {"tokens": TOKENS}}
    slardar = start(begin(tmp_path / "slardar", settings))
    dashboard = Dashboard(chromium, slardar)
    page = dashboard.page
    dashboard.goto()
    page.get_by_label("Token").fill("guest")
    # Somebody looks elsewhere for the token, and comes back.
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    asked = page.evaluate("performance.getEntriesByName(location.origin + '/overview').length")
    page.wait_for_timeout(100)
    assert asked == 0
    expect(page.get_by_label("Token")).to_have_value("guest")
    page.get_by_label("Token").fill("chief")
    page.keyboard.press("Enter")
    dashboard.server("a.example", "127.0.0.1:2").get_by_role("button", name="Drain").click()
    expect(dashboard.dialog.locator(".diff")).to_contain_text("drain")
    refused = {"status": 401, "json": {"status": 401, "msg": "expected a token"}}
    page.route("**/overview*", lambda route: route.fulfill(**refused))
    expect(page.get_by_role("alert")).to_have_text("The token is not known any more.")
    expect(dashboard.dialog).to_have_count(0)
    assert "a.example" not in page.content()
    assert page.url.endswith("/")
    page.unroute("**/overview*")
    page.get_by_label("Token").fill("guest")
    page.keyboard.press("Enter")
    expect(dashboard.upstream("a.example")).to_be_visible()
    page.context.close()


# What happens to slardar.


def test_restart(chromium: Browser, tmp_path: Path, start: Start) -> None:
    """The page says that slardar is gone, and goes on when it is back."""
    settings = {"upstreams": {"a": {"servers": servers("127.0.0.1:1"), **OFF}}}
    slardar = start(begin(tmp_path / "slardar", settings))
    dashboard = Dashboard(chromium, slardar).open()
    dashboard.link("Live")
    slardar.stop()
    dashboard.link("No connection")
    control = f"tcp:{slardar.control}:interface=127.0.0.1"
    again = start(Slardar(tmp_path / "slardar", "--control", control).ready())
    again.call("PUT", "/upstream/b", {"servers": servers("127.0.0.1:2"), **OFF})
    dashboard.link("Live")
    expect(dashboard.upstream("b")).to_be_visible()
    dashboard.page.context.close()


def test_upgrade(chromium: Browser, tmp_path: Path, start: Start, live: Live) -> None:
    """A new process takes over while the page is open: rates go on, and changes can be made."""
    settings = {"upstreams": {"a": {"servers": servers(live.server()), **OFF}}}
    slardar = start(begin(tmp_path / "slardar", settings, kind=partial(Upgraded, count=1)))
    live.traffic(slardar.port, "a", 30)
    dashboard = Dashboard(chromium, slardar).open()
    expect(dashboard.page.locator("#generations")).to_contain_text(str(slardar.pid))
    slardar.upgrade()
    first = dashboard.page.locator("#generations tbody tr").first
    expect(first).not_to_contain_text(str(slardar.pid))
    dashboard.link("Live")
    rate = dashboard.upstream("a").locator(".requests .value")
    expect(rate).not_to_have_text("0/s")
    row = dashboard.unfold("a")
    row.get_by_role("button", name="Drain").click()
    dashboard.confirm("Drain it")
    dashboard.said("is draining")
    dashboard.page.context.close()


def test_without_events(dashboard: Dashboard) -> None:
    """Where the stream of events is refused, the page polls."""
    refusal = {"status": 503, "json": {"status": 503, "msg": "too many streams"}}
    dashboard.page.route("**/events", lambda route: route.fulfill(**refusal))
    dashboard.open()
    dashboard.link("Polling")
    body = {"servers": servers("127.0.0.1:5"), **OFF}
    dashboard.slardar.call("PUT", "/upstream/polled.example", body)
    expect(dashboard.upstream("polled.example")).to_be_visible()
    expect(dashboard.page.locator("#history-list")).to_contain_text("upstream polled.example")
    dashboard.slardar.call("DELETE", "/upstream/polled.example")
    expect(dashboard.upstream("polled.example")).to_have_count(0)


# Hostile texts.

#: Where it became markup, it would run, or could be found.
MARKUP = '<img class=evil src=x onerror="window.hacked = 1"><script>window.hacked = 1</script>'
#: Words that the page understands.
WORDS = frozenset(
    (
        *("name", "servers", "up", "requests", "errors", "retries", "bytes_out"),
        *("ok", "err", "unstable", "unchecked", "drain", "down", "alive", "ended", "admin", "read"),
        *("python", "lua", "staged", "active", "suspended", "failed", "continues", "answered"),
        *("host", "route", "default", "hook", "wildcard", "upstream"),
    )
)


def spoilt(value: Any) -> Any:
    """A value with markup in all of its texts, and in the names of what is in it."""
    if isinstance(value, str):
        return value if value in WORDS or value.startswith("20") else value + MARKUP
    if isinstance(value, list):
        return [spoilt(one) for one in value]
    if isinstance(value, dict):
        return {
            key if key.isidentifier() else key + MARKUP: spoilt(one) for key, one in value.items()
        }
    return value


def spoil(route: Route) -> None:
    """Answer a call with what slardar answers, spoilt; slardar is asked for the right names."""
    url = urlsplit(route.request.url)
    query = [(key, value.replace(MARKUP, "")) for key, value in parse_qsl(url.query)]
    path = quote(unquote(url.path).replace(MARKUP, ""))
    reply = route.fetch(url=url._replace(path=path, query=urlencode(query)).geturl())
    body = spoilt(reply.json())
    route.fulfill(status=reply.status, headers={"ETag": reply.headers.get("etag", "")}, json=body)


def test_texts_are_hostile(chromium: Browser, tmp_path: Path, start: Start, live: Live) -> None:
    """Whatever holds markup, it is shown as a text: names, reasons, code, examples, errors."""
    upstream = {
        "servers": servers(live.server()),
        "x_<b onclick=window.hacked=1>": MARKUP,
        **OFF,
    }
    settings = {"upstreams": {"a.example": upstream}}
    slardar = start(begin(tmp_path / "slardar", settings))
    live.traffic(slardar.port, "a.example", 40, "/<img/src=x/onerror=window.hacked=1>")
    code = f"def on_request(request):\n    log.warn('{MARKUP[:20]}')\n"
    slardar.call("POST", "/python/script.a.example?activate=1", code)
    slardar.call(
        "POST", "/python/script.a.example?shadow=1", code + "    raise ValueError('<i>')\n"
    )
    slardar.call("PUT", "/setting/evil", MARKUP)
    dashboard = Dashboard(chromium, slardar)
    page = dashboard.page
    base = f"http://127.0.0.1:{slardar.control}"
    for place in ("overview*", "history*", "history/*", "python*", "python/**", "lua*", "explain*"):
        page.route(f"{base}/{place}", spoil)
    page.route(f"{base}/upstream/**", spoil)
    certificate = dict.fromkeys(("name", "issuer", "from", "expires"), MARKUP)
    told = [{**certificate, "names": [MARKUP]}]
    page.route("**/certificates", lambda route: route.fulfill(json=told))
    events = [
        {"kind": "health", "upstream": MARKUP, "server": MARKUP, "status": "err", "reason": MARKUP},
        {"kind": "worker", "name": MARKUP, "state": "ended", "pid": 1, "reason": MARKUP},
        {"kind": MARKUP, "name": MARKUP, "version": 1, "who": MARKUP},
    ]
    text = "".join(f"id: {MARKUP}\ndata: {json.dumps({**one, 'time': 1.0})}\n\n" for one in events)
    stream = {"Content-Type": "text/event-stream"}
    page.route("**/events", lambda route: route.fulfill(body=text, headers=stream))
    dashboard.goto()
    page.locator(".upstream").first.wait_for()
    for toggle in page.locator(".toggle").all():
        toggle.click()
    page.locator(".server:not(.columns)").first.wait_for()
    page.locator(".shadow").wait_for()
    page.locator("#certificates tbody tr").wait_for()
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator("#event-list")).to_contain_text("onerror")
    page.get_by_label("URL").fill("a.example")
    page.get_by_role("button", name="Explain", exact=True).click()
    page.locator(".candidates").wait_for()
    page.get_by_role("button", name="Drain").first.click()
    expect(dashboard.dialog.locator("h2")).to_contain_text("onerror")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Roll back to").first.click()
    expect(dashboard.dialog).to_be_visible()
    page.keyboard.press("Escape")
    for part in ("flow-picture", "upstream-list", "hook-list", "history-list", "workers"):
        expect(page.locator(f"#{part}")).to_contain_text("<img")
    assert page.locator(".evil, b, i:not(.dots i), main script").count() == 0
    assert page.evaluate("window.hacked") is None
    page.context.close()


# Very many upstreams.


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slardar]:
    """1,000 upstreams of 10 servers."""
    upstreams = {
        f"u{number:03}.example": {
            "servers": servers(*(f"127.0.0.1:{20000 + port}" for port in range(10))),
            **OFF,
        }
        for number in range(1000)
    }
    settings = {"upstreams": upstreams}
    slardar = begin(tmp_path_factory.mktemp("many") / "slardar", settings, "--workers", "1")
    yield slardar
    slardar.end()


#: Milliseconds from a change of the search to a list that is laid out: the median of some.
SEARCH = """() => {
    const search = document.getElementById("search");
    const list = document.getElementById("upstream-list");
    const times = [];
    for (const text of ["9", "u12", "", "u00", "example", ""]) {
        const began = performance.now();
        search.value = text;
        search.dispatchEvent(new Event("input"));
        list.getBoundingClientRect();
        times.push(performance.now() - began);
    }
    return times.sort((a, b) => a - b)[3];
}"""


@pytest.mark.alone
def test_very_many_upstreams(chromium: Browser, many: Slardar) -> None:
    """They are searched at once, shown in pages, and slardar has little to do for them."""
    dashboard = Dashboard(chromium, many).open()
    page = dashboard.page
    expect(page.locator("#upstream-count")).to_have_text("1000 upstreams")
    expect(page.locator("#page-number")).to_have_text("Page 1 of 50")
    expect(page.locator(".upstream")).to_have_count(20)
    assert page.evaluate(SEARCH) <= 100
    page.get_by_role("searchbox").fill("u12")
    expect(page.locator(".upstream")).to_have_count(10)
    expect(page.locator("#upstream-count")).to_have_text("10 of 1000 upstreams")
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="Next").click()
    expect(dashboard.upstream("u020.example")).to_be_visible()
    expect(dashboard.server("u020.example", "127.0.0.1:20009").locator(".state")).to_be_visible()
    before = cpu_seconds(many.pid)
    page.wait_for_timeout(4000)
    assert (cpu_seconds(many.pid) - before) / 4 <= 0.1
    page.context.close()


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
