"""How Sphinx builds these pages: Markdown in, plain HTML out, nothing fetched."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from reference import filled

_package = Path(__file__).resolve().parent.parent / "slardar" / "__init__.py"

project = "slardar"
author = "the slardar authors"
copyright = "2026, the slardar authors"
release = re.search(r'__version__ = "([^"]+)"', _package.read_text(encoding="utf-8"))[1]
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"slardar {release}"
html_copy_source = False
html_show_sphinx = False
# A shell command over several lines is no mistake, though the lexer of consoles says so.
suppress_warnings = ["misc.highlighting_failure"]


def setup(app):
    """Put the lists that are made from the code into their pages."""

    def fill(_app, _page, text):
        text[0] = filled(text[0])

    app.connect("source-read", fill)
