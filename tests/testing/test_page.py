"""The page on laws: its code runs, in order, and prints what the page shows."""

import contextlib
import io
import re

from strategies import drawn_as_shown
from testing.test_our_rules import PAGE

BLOCKS = re.compile(r"```python\n(.*?)```\s*(?:```text\n(.*?)```)?", re.S)


def without_devices(text):
    """The lines that do not depend on the machine."""
    return [line for line in text.splitlines() if not line.startswith("devices")]


@drawn_as_shown
def test_the_code_prints_what_the_page_shows():
    names = {}
    blocks = BLOCKS.findall(PAGE.read_text())
    assert len(blocks) == 2
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        assert without_devices(printed.getvalue()) == without_devices(shown)
