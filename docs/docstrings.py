"""An extension of griffe: docstrings as Sphinx's people write them, in the words of mkdocs.

``.. math::`` and ``:math:`` become ``$$`` and ``$``, and the section ``Example:`` becomes
``Examples:``, which alone is read as code.
"""

import re

import griffe

_DIRECTIVE = re.compile(r"^([ ]*)\.\. math::((?:.+\n?)+)", re.MULTILINE)
_ROLE = re.compile(r":math:`([^`]+)`")
_EXAMPLE = re.compile(r"^Example:$", re.MULTILINE)


def _displayed(found: re.Match[str]) -> str:
    indent, equation = found.groups()
    return f"{indent}$$\n{indent}{' '.join(equation.split())}\n{indent}$$\n"


class Docstrings(griffe.Extension):
    """Rewrites every docstring as it is read."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            text = _ROLE.sub(r"$\1$", _DIRECTIVE.sub(_displayed, obj.docstring.value))
            obj.docstring.value = _EXAMPLE.sub("Examples:", text)
