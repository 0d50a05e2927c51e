"""A hook of mkdocs: equations become MathML, so that a page asks no server and runs no script.

Pages write ``$x$`` and ``$$x$$``; arithmatex finds them, and this converts what it found.
"""

import re
from html import unescape

from latex2mathml.converter import convert

_FOUND = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def _mathml(found: re.Match[str]) -> str:
    tag, equation = found.groups()
    equation = re.sub(r"\\arg\b", r"\\operatorname{arg}", unescape(equation))  # it knows not arg
    result = convert(equation, display="block" if tag == "div" else "inline")
    if "\\" in result:  # what the converter does not know it leaves as it is
        raise ValueError(f"equation: expected commands that latex2mathml knows, got {equation!r}")
    return f'<{tag} class="equation">{result}</{tag}>'


def on_page_content(html: str, **_: object) -> str:
    """Replaces every equation of a page."""
    return _FOUND.sub(_mathml, html)
