"""Every mutant of a source file: mutmut's operators, applied wherever they fit.

mutmut itself leaves out decorated functions, default values, ``len`` and all that runs at import.
Nothing is left out here but what cannot run (annotations, docstrings) and what does not compile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider, WhitespaceInclusivePositionProvider
from mutmut.mutation.mutators import mutation_operators


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: the file, relative to the package's parent.
        line: where the changed expression begins.
        first, last: the lines of the statement around it, or of the head of a block.
        scope_first, scope_last: the lines of the innermost function around it, or of the file:
            what depends on a statement that runs at import.
        operator: mutmut's operator.
        before, after: the changed lines, stripped.
        copy: tells mutants of equal lines in one file apart.
    """

    file: str
    line: int
    first: int
    last: int
    scope_first: int
    scope_last: int
    operator: str
    before: str
    after: str
    copy: int

    @property
    def key(self) -> str:
        """The same after lines elsewhere in the file have moved it."""
        return f"{self.file}\n{self.before}\n{self.after}\n{self.copy}"

    def public(self) -> dict[str, Any]:
        """What a result file tells of it."""
        kept = ("file", "line", "operator", "before", "after")
        return {name: value for name, value in asdict(self).items() if name in kept}


def mutants(root: Path, file: str) -> list[tuple[Mutant, str]]:
    """All mutants of a file, each with the whole changed source."""
    source = (root / file).read_text()
    wrapper = MetadataWrapper(cst.parse_module(source))
    visitor = _Visitor(wrapper, file)
    wrapper.module.visit(visitor)
    found, seen, copies = [], {source}, Counter[tuple[str, str]]()
    places, starts = wrapper.resolve(WhitespaceInclusivePositionProvider), _line_starts(source)
    for node, changed, operator, spans in visitor.changes:
        begin, end = places[node].start, places[node].end
        head, tail = (
            source[: starts[begin.line] + begin.column],
            source[starts[end.line] + end.column :],
        )
        mutated = head + wrapper.module.code_for_node(changed) + tail
        if mutated in seen or not _compiles(mutated):
            continue
        seen.add(mutated)
        before, after = _changed_lines(source, mutated)
        copies[before, after] += 1
        found.append(
            (Mutant(file, *spans, operator, before, after, copies[before, after]), mutated)
        )
    return found


class _Visitor(cst.CSTVisitor):
    """Collects (node, changed node, operator, lines), knowing which statement it is in."""

    def __init__(self, wrapper: MetadataWrapper, file: str) -> None:
        self.places = wrapper.resolve(PositionProvider)
        self.statements: list[tuple[int, int]] = []
        self.scopes = [(1, self.places[wrapper.module].end.line)]
        self.changes: list[tuple[cst.CSTNode, cst.CSTNode, str, tuple[int, ...]]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.Annotation) or _is_docstring(node):
            return False
        if isinstance(node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            first, last = self.places[node].start.line, self.places[node].end.line
            if isinstance(node, cst.FunctionDef):
                self.scopes.append((first, last))
            if isinstance(node, cst.BaseCompoundStatement):
                last = max(first, self.places[node.body].start.line - 1)
            self.statements.append((first, last))
        for kind, operator in mutation_operators:
            if isinstance(node, kind) and self.statements:
                name = operator.__name__.removeprefix("operator_")
                place = self.places[node].start.line if node in self.places else 0
                first, last = self.statements[-1]
                spans = (place or first, first, last, *self.scopes[-1])
                for changed in operator(node):
                    self.changes.append((node, changed, name, spans))
        return True

    def on_leave(self, original_node: cst.CSTNode) -> None:
        if _is_docstring(original_node):
            return
        if isinstance(original_node, cst.SimpleStatementLine | cst.BaseCompoundStatement):
            self.statements.pop()
        if isinstance(original_node, cst.FunctionDef):
            self.scopes.pop()


def _line_starts(source: str) -> list[int]:
    """Where line 1, 2, ... begin; there is no line 0."""
    return [0, *accumulate(map(len, source.splitlines(keepends=True)), initial=0)]


def _is_docstring(node: cst.CSTNode) -> bool:
    return (
        isinstance(node, cst.SimpleStatementLine)
        and isinstance(node.body[0], cst.Expr)
        and isinstance(node.body[0].value, cst.SimpleString)
    )


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _changed_lines(source: str, mutated: str) -> tuple[str, str]:
    old, new = source.splitlines(), mutated.splitlines()
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return "\n".join(map(str.strip, old)), "\n".join(map(str.strip, new))


def all_mutants(root: Path, package: str) -> Iterator[tuple[Mutant, str]]:
    """The mutants of every file of a package."""
    for path in sorted((root / package).rglob("*.py")):
        yield from mutants(root, path.relative_to(root).as_posix())
