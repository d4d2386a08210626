"""A real browser for tests: Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, sync_playwright

__all__ = ["PATIENCE", "Browser"]

#: Seconds within which a page on a busy machine must do what is waited for.
PATIENCE = 30.0

_SWITCHES = (
    # Tests run as root in containers.
    "--no-sandbox",
    "--no-proxy-server",
    # Every name is of this machine, so that pages have names and nothing is asked elsewhere.
    "--host-resolver-rules=MAP * 127.0.0.1",
)


class Browser:
    """Chromium with an empty profile, whose home is in ``folder``.

    It trusts the certificates in the files ``trusts`` as CAs, besides those that it brings.
    It is quit by ``quit``, or as a context manager.
    """

    def __init__(self, folder: Path, trusts: Sequence[Path] = ()) -> None:
        path = shutil.which("chromium")
        assert path is not None, "chromium is needed: make test installs it"
        home = folder / "browser"
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        if trusts:
            _certutil(database, "-N", "--empty-password")
        for number, file in enumerate(trusts):
            _certutil(database, "-A", "-t", "C,,", "-n", f"ca{number}", "-i", str(file))
        #: What pages have said on their consoles as errors, and errors that no script caught.
        self.complaints: list[str] = []
        self._playwright = sync_playwright().start()
        try:
            self._browser = self._playwright.chromium.launch(
                executable_path=path, args=_SWITCHES, env={**os.environ, "HOME": str(home)}
            )
        except BaseException:
            self._playwright.stop()
            raise

    def page(self, **options: Any) -> Page:
        """A page with cookies and a cache of its own; ``options`` are those of Playwright's
        ``new_context`` (``viewport``, ``color_scheme``, ``extra_http_headers``, ...)."""
        context: BrowserContext = self._browser.new_context(**options)
        context.set_default_timeout(PATIENCE * 1000)
        page = context.new_page()
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        return page

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(message.text)

    def quit(self) -> None:
        """Close all pages, and end the browser."""
        try:
            self._browser.close()
        finally:
            self._playwright.stop()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.quit()


def _certutil(database: Path, *words: str) -> None:
    """Change the list of certificates where Chromium looks for those of its user."""
    subprocess.run(
        ["certutil", "-d", f"sql:{database}", *words], check=True, capture_output=True, timeout=30
    )
