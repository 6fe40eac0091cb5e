"""The frame of every HTML page that mer writes: one file, nothing fetched, no scripts."""

from __future__ import annotations

import html

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Written by mer. One file, nothing fetched, no scripts.</footer>
</body>
</html>
"""


def page(title: str, style: str, body: str) -> str:
    """A whole page.

    Args:
        title: plain text.
        style: CSS.
        body: HTML of the main part, escaped by the caller.
    """
    return _PAGE.format(title=html.escape(title), style=style, body=body)
