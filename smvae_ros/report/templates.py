"""The package's HTML, CSS and JavaScript, put into one file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import smvae_core


def framed(body: str, title: str, ending: str, scripts: Sequence[str], data: Any = None, **parts: str) -> str:
    """Return a whole page that loads nothing from anywhere.

    Args:
        body: name of the template for the body.
        title: title as text.
        ending: last line as text.
        scripts: names of the JavaScript files, which run as one module.
        data: data for the scripts, to be written as JSON.
        parts: HTML for the placeholders of the body.
    """
    # A "<" in a string must not end the script element.
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Template(_read("frame.html")).substitute(
        title=escape(title),
        style=_read("style.css"),
        body=Template(_read(body)).substitute(title=escape(title), **parts),
        version=escape(smvae_core.__version__),
        ending=escape(ending),
        data="" if data is None else f'<script type="application/json" id="data">{text}</script>\n',
        script="\n".join(_read(name) for name in scripts),
    )


def _read(name: str) -> str:
    return (files("smvae_ros.report") / name).read_text(encoding="utf-8")
