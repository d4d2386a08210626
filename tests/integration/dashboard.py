"""The dashboard as somebody who looks at it: a page of the browser, and what it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.browser import PATIENCE, Browser
from tests.integration.live import Live
from tests.integration.programs import CHECKOUT, Slardar

__all__ = ["AXE", "Dashboard", "barriers", "begin", "numbers_in", "servers"]

AXE = CHECKOUT / ".venv" / "axe" / "axe.min.js"

# A page that is asked for every two seconds shows all there is within some of them.
expect.set_options(timeout=PATIENCE / 2 * 1000)


def servers(*addresses: str, **rest: Any) -> list[dict[str, Any]]:
    """Servers as a file has them; ``rest`` are keys of each."""
    found = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        found.append({"host": host, "port": int(port), **rest})
    return found


def begin(
    folder: Path,
    settings: Mapping[str, Any],
    *options: str,
    kind: Callable[..., Slardar] = Slardar,
) -> Slardar:
    """A slardar with these settings in its file; ``kind`` starts it."""
    folder.mkdir()
    (folder / "slardar.yaml").write_text(json.dumps(settings))
    return kind(folder, "--config", "slardar.yaml", *options).ready()


class Dashboard:
    """One page that is open."""

    def __init__(self, browser: Browser, slardar: Slardar, **options: Any) -> None:
        self.slardar = slardar
        self.page: Page = browser.page(**{"viewport": {"width": 1280, "height": 900}, **options})

    def open(self) -> Dashboard:
        """Itself, once the upstreams are there."""
        self.goto()
        self.page.locator(".upstream").first.wait_for()
        return self

    def goto(self) -> None:
        """Load the page."""
        self.page.goto(f"http://127.0.0.1:{self.slardar.control}/")

    @property
    def dialog(self) -> Locator:
        """The dialog that is open."""
        return self.page.locator("dialog")

    def upstream(self, name: str) -> Locator:
        """An upstream of the list."""
        toggle = self.page.get_by_role("button", name=name, exact=True)
        return self.page.locator(".upstream", has=toggle)

    def unfold(self, name: str) -> Locator:
        """The same, with its servers."""
        toggle = self.page.get_by_role("button", name=name, exact=True)
        if toggle.get_attribute("aria-expanded") != "true":
            toggle.click()
        return self.upstream(name)

    def server(self, name: str, address: str) -> Locator:
        """A server of an upstream."""
        return self.unfold(name).locator(f'[data-server="{address}"]')

    def server_of(self, name: str) -> Locator:
        """The first server of an upstream."""
        return self.unfold(name).locator(".server:not(.columns)").first

    def hook(self, name: str) -> Locator:
        """A hook, by language and name."""
        return self.page.locator(f'[data-hook="{name}"]')

    def confirm(self, action: str, *shown: str) -> None:
        """See these lines in the dialog's difference, and confirm."""
        for line in shown:
            expect(self.dialog.locator(".diff")).to_contain_text(line)
        self.dialog.get_by_role("button", name=action, exact=True).click()
        expect(self.dialog).to_have_count(0)

    def said(self, text: str) -> None:
        """Wait until the page has said something."""
        expect(self.page.locator("#notices")).to_contain_text(text)

    def link(self, word: str) -> None:
        """Wait until the page says so of its connection."""
        expect(self.page.locator("#link")).to_have_text(word)


def numbers_in(text: str) -> list[float]:
    """The numbers in a text."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def barriers(page: Page) -> Iterator[str]:
    """What axe-core finds that is serious for those who do not see, or use no mouse."""
    assert AXE.exists(), "axe-core is needed: make test gets it"
    if not page.evaluate("typeof window.axe === 'object'"):
        # As a debugger does it: the page's policy holds for the page.
        page.evaluate(AXE.read_text("utf-8"))
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    for violation in found["violations"]:
        if violation["impact"] in ("serious", "critical"):
            nodes = [
                f"{node['html'][:200]}: {node['failureSummary']}" for node in violation["nodes"]
            ]
            yield f"{violation['id']}: {nodes[:3]}"


def make_world(live: Live) -> dict[str, Any]:
    """Upstreams of servers that are quick, slow, broken, drained or in reserve."""
    return {
        "www.example.com": {
            "servers": servers(*(live.server(0.004) for _ in range(3)), live.server(0.02, 0.02))
        },
        "api.example.com": {
            "servers": servers(*(live.server(0.012) for _ in range(3))),
            "mode": "least_conn",
        },
        "static.example.com": {
            "servers": [
                *servers(live.server(0.001)),
                *servers(live.server(0.001), state="drain"),
            ]
        },
        "*.shop.example": {
            "servers": [
                *servers(live.server(0.03), live.server(0.04)),
                *servers("127.0.0.1:1", weight=2),
            ]
        },
        "auth.internal": {"servers": servers(live.server(0.008), live.server(0.008))},
        "search.internal": {
            "servers": [
                *servers(live.server(0.05), live.server(0.06)),
                *servers(live.server(0.05), backup=True),
            ]
        },
    }
