"""A hook of mkdocs: equations become MathML, so that a page asks no server and runs no script.

Pages write ``$x$`` and ``$$x$$``; arithmatex finds them, and this converts what it found.
"""

import re
from html import unescape

from latex2mathml.converter import convert

_FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def _mathml(found: re.Match[str]) -> str:
    tag, equation = found.groups()
    display = "block" if tag == "div" else "inline"
    return f'<{tag} class="equation">{convert(unescape(equation), display=display)}</{tag}>'


def on_page_content(html: str, **_: object) -> str:
    """Replaces every equation of a page."""
    return _FOUND.sub(_mathml, html)
