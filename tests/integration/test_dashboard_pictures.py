"""How the dashboard looks, and whether everybody can use it.

The pictures in the docs are from here: ``SLARDAR_SCREENSHOTS=docs`` in the environment has them
written there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser import Browser
from tests.integration.dashboard import Dashboard, barriers, begin, make_world
from tests.integration.live import Live
from tests.integration.programs import CHECKOUT, Slardar

#: Two versions of a hook, of which the second one is in the shadow.
IN_SERVICE = (
    "def on_request(request):\n    request.headers['X-Tenant'] = request.host.split('.')[0]\n"
)
IN_SHADOW = """\
def on_request(request):
    request.headers['X-Tenant'] = request.host.split('.')[0]
    if request.path.startswith('/old'):
        return request.redirect('/new', 301)
"""
#: Requests a second by host and path.
TRAFFIC = (
    *(("www.example.com", "/", 40.0),) * 3,
    ("www.example.com", "/old/page", 6.0),
    ("api.example.com", "/v1/orders", 40.0),
    ("api.example.com", "/v1/users", 40.0),
    ("static.example.com", "/logo.svg", 60.0),
    ("a.shop.example", "/cart", 20.0),
    ("auth.internal", "/", 30.0),
    ("search.internal", "/?q=a", 10.0),
    ("unknown.example", "/", 3.0),
)
#: Bytes of a picture in the docs.
MOST = 200_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slardar]:
    """A slardar with traffic of several kinds."""
    with Live() as live:
        settings = {"upstreams": make_world(live), "health": {"interval": 1}}
        folder = tmp_path_factory.mktemp("world") / "slardar"
        slardar = begin(folder, settings, "--workers", "2")
        hook = "/python/script.www.example.com"
        slardar.call("POST", f"{hook}?activate=1", IN_SERVICE)
        slardar.call("POST", f"{hook}?shadow=1", IN_SHADOW)
        for host, path, rate in TRAFFIC:
            live.traffic(slardar.port, host, rate, path)
        yield slardar
        slardar.end()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """The browser of all pages."""
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def light(chromium: Browser, world: Slardar) -> Dashboard:
    """A page on a desk."""
    return Dashboard(chromium, world, color_scheme="light").open()


@pytest.fixture(scope="module")
def dark(chromium: Browser, world: Slardar) -> Dashboard:
    """The same in the dark."""
    return Dashboard(chromium, world, color_scheme="dark").open()


@pytest.fixture(scope="module")
def phone(chromium: Browser, world: Slardar) -> Dashboard:
    """A page of a phone."""
    return Dashboard(
        chromium,
        world,
        viewport={"width": 360, "height": 780},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
        color_scheme="light",
    ).open()


# Not asked for by name in a test: tests run in another greenlet than fixtures do, and Playwright
# has to be stopped in the one that has started it.
@pytest.fixture(scope="module")
def kinds(light: Dashboard, dark: Dashboard, phone: Dashboard) -> dict[str, Dashboard]:
    """The pages by their names."""
    return {"light": light, "dark": dark, "phone": phone}


def fill(dashboard: Dashboard) -> None:
    """Have the page show all that it can."""
    page = dashboard.page
    for name in ("www.example.com", "*.shop.example"):
        expect(dashboard.unfold(name).locator(".server .state").first).to_be_visible()
    page.get_by_label("URL").fill("http://a.shop.example/cart")
    page.get_by_role("button", name="Explain", exact=True).click()
    page.locator(".candidates").wait_for()
    page.locator("#hook-list .shadow").wait_for()


@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
def test_no_barriers(kind: str, kinds: dict[str, Dashboard]) -> None:
    """axe-core finds nothing serious, with everything unfolded, and in a dialog."""
    dashboard = kinds[kind]
    fill(dashboard)
    assert list(barriers(dashboard.page)) == []
    if kind == "phone":
        return
    dashboard.page.get_by_role("button", name="Weight").first.click()
    dashboard.dialog.get_by_label("Weight").fill("5")
    expect(dashboard.dialog.locator(".diff")).to_contain_text('"weight": 5')
    assert list(barriers(dashboard.page)) == []
    dashboard.page.keyboard.press("Escape")


def test_keyboard(light: Dashboard) -> None:
    """Everything is reached and done without a mouse, and the focus comes back after a dialog."""
    page = light.page
    page.reload()
    light.unfold("auth.internal")
    page.get_by_role("button", name="auth.internal", exact=True).focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    server = light.upstream("auth.internal").locator(".server:not(.columns)").first
    expect(server).to_be_visible()
    page.keyboard.press("Tab")
    expect(server.get_by_role("button", name="Drain")).to_be_focused()
    page.keyboard.press("Enter")
    expect(light.dialog.locator(".diff")).to_contain_text("drain")
    for _ in range(12):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement === document.body || "
                             "document.activeElement.closest('dialog') !== null")  # fmt: skip
    page.keyboard.press("Escape")
    expect(light.dialog).to_have_count(0)
    expect(server.get_by_role("button", name="Drain")).to_be_focused()


def test_nothing_is_wider_than_a_phone(phone: Dashboard) -> None:
    """With everything unfolded, there is nothing to scroll sideways."""
    fill(phone)
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 360


def test_theme(light: Dashboard, dark: Dashboard) -> None:
    """As the system says, until the reader chooses; the choice stays."""
    ground = "getComputedStyle(document.body).backgroundColor"
    theirs = [one.page.evaluate(ground) for one in (light, dark)]
    assert theirs[0] != theirs[1]
    button = light.page.get_by_role("button", name="Theme")
    for _ in range(2):
        button.click()
    assert light.page.evaluate(ground) == theirs[1]
    light.page.reload()
    assert light.page.evaluate(ground) == theirs[1]
    button.click()
    assert light.page.evaluate(ground) == theirs[0]
    expect(button).to_have_attribute("aria-label", "Theme: as the system")


def test_pictures(light: Dashboard, dark: Dashboard, phone: Dashboard, tmp_path: Path) -> None:
    """Those in the docs are small; each shows real traffic."""
    wanted = os.environ.get("SLARDAR_SCREENSHOTS")
    folder = tmp_path if wanted is None else CHECKOUT / wanted
    for dashboard in (light, dark, phone):
        if wanted is not None:
            # The lines of the last half minute.
            dashboard.page.wait_for_timeout(10_000)
        latency = dashboard.upstream("www.example.com").locator(".row .p99 .value")
        expect(latency).to_contain_text("s")
    light.page.set_viewport_size({"width": 1280, "height": 860})
    light.page.evaluate("scrollTo(0, 0)")
    light.page.screenshot(path=folder / "dashboard-light.png")
    fill(dark)
    dark.page.locator("#upstreams").scroll_into_view_if_needed()
    dark.page.evaluate("document.getElementById('upstreams').scrollIntoView()")
    dark.page.wait_for_timeout(500)
    dark.page.screenshot(path=folder / "dashboard-dark.png")
    phone.page.evaluate("scrollTo(0, 0)")
    phone.page.screenshot(path=folder / "dashboard-phone.png")
    light.server_of("static.example.com").get_by_role("button", name="Drain").click()
    expect(light.dialog.locator(".diff")).to_contain_text("drain")
    light.page.screenshot(path=folder / "dashboard-change.png")
    light.page.keyboard.press("Escape")
    for path in folder.glob("dashboard-*.png"):
        assert path.stat().st_size <= MOST, path
