"""What a broken law says, in words."""

from __future__ import annotations

from pseudolabel.testing.cases import Case


class LawViolation(AssertionError):
    """A law that a rule broke, and on what.

    Attributes:
        law: The name of the law.
        case: The case that shows it, the smallest that was found.
        expected: What the law asks for, in words.
        got: What came, in words.
    """

    def __init__(
        self, law: str, case: Case | None, expected: str, got: str, change: str = ""
    ) -> None:
        self.law, self.case, self.expected, self.got, self.change = law, case, expected, got, change
        super().__init__(self._text(""))

    def _text(self, statement: str) -> str:
        lines = [f"the law {self.law!r} is broken" + (f": {statement}" if statement else "")]
        if self.case is not None:
            size = f"{self.case.num_samples} samples, {self.case.num_classes} classes"
            lines += [f"smallest case found ({size}):"]
            lines += [f"    {line}" for line in str(self.case).splitlines()]
        lines += [f"    {line}" for line in self.change.splitlines()]
        lines += ["expected:", *(f"    {line}" for line in self.expected.splitlines())]
        lines += ["got:", *(f"    {line}" for line in self.got.splitlines())]
        return "\n".join(lines)

    def stating(self, statement: str) -> LawViolation:
        """The same violation, with the law's statement in its first line."""
        violation = LawViolation(self.law, self.case, self.expected, self.got, self.change)
        violation.args = (violation._text(statement),)
        return violation
