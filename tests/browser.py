"""A real browser for tests: Debian's Chromium without a window, driven by Playwright."""

from __future__ import annotations

import json
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
    With ``identity``, the files of a certificate and its key, it shows the certificate to
    every server that asks for one.  It is quit by ``quit``, or as a context manager.
    """

    def __init__(
        self,
        folder: Path,
        trusts: Sequence[Path] = (),
        identity: tuple[Path, Path] | None = None,
    ) -> None:
        path = shutil.which("chromium")
        assert path is not None, "chromium is needed: make test installs it"
        home = folder / "browser"
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        if trusts or identity:
            _certutil(database, "-N", "--empty-password")
        for number, file in enumerate(trusts):
            _certutil(database, "-A", "-t", "C,,", "-n", f"ca{number}", "-i", str(file))
        if identity:
            _import(database, *identity)
            path = str(_with_policy(home))
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
    _run("certutil", "-d", f"sql:{database}", *words)


def _import(database: Path, cert: Path, key: Path) -> None:
    """Add a certificate with its key."""
    file = database / "identity.p12"
    _run("openssl", "pkcs12", "-export", "-in", str(cert), "-inkey", str(key), "-out", str(file),
         "-passout", "pass:x")  # fmt: skip
    _run("pk12util", "-d", f"sql:{database}", "-i", str(file), "-W", "x")


def _with_policy(home: Path) -> Path:
    """A program that starts Chromium with a policy by which nobody has to pick a certificate.

    Policies are read from a folder of the machine; the browser, and nobody else, sees another
    one there.
    """
    folder = home / "etc"
    policies = folder / "policies" / "managed"
    policies.mkdir(parents=True)
    every = json.dumps({"pattern": "*", "filter": {}})
    (policies / "test.json").write_text(json.dumps({"AutoSelectCertificateForUrls": [every]}))
    user = "" if os.getuid() == 0 else "--map-root-user "
    program = home / "chromium"
    program.write_text(
        "#!/bin/sh\n"
        f"exec unshare {user}--mount sh -c 'mount --bind {folder} /etc/chromium &&"
        """ exec chromium "$@"' chromium "$@"\n"""
    )
    program.chmod(0o755)
    return program


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
