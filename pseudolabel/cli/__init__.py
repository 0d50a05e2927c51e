"""The command ``pseudolabel``: cluster embeddings, or audit labels, from the shell.

Imported only when asked for; needs the extra ``cli``. reading.py turns files into checked arrays,
commands.py does the work, folder.py writes the results, progress.py says how far it is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["entry", "main"]

_OK, _FAILED, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: Those of the shell, without the program's name; None takes ``sys.argv``'s.

    Returns:
        The exit code: 0; 1 for a failure of the machine, a full disk for example; 2 for bad usage
        or input; 130 if it was interrupted. Wrong options exit with 2 before it returns.

    Example:
        >>> from pseudolabel.cli import main
        >>> main(["--version"])
        pseudolabel 0.1.0.dev0
        0
    """
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return _fail(_INTERRUPTED, "interrupted; nothing was written")


def entry() -> NoReturn:
    """The program: runs `main` and exits with its code."""
    code = main()
    if code == _INTERRUPTED:
        # Python remembers an interrupt that passed through an exec, as imports make them, and would
        # end by the signal in spite of the exit code.
        sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    try:
        from pseudolabel.cli.commands import parse
        from pseudolabel.cli.reading import InputError
    except ModuleNotFoundError as error:
        missing = f'{error.name} is not installed; pip install "pseudolabel[cli]"'
        return _fail(_BAD_INPUT, missing)
    if list(arguments) == ["--version"]:
        from pseudolabel import __version__

        print(f"pseudolabel {__version__}")  # noqa: T201 - what a command is for
        return _OK
    command = parse(arguments)
    try:
        command.run()
    except InputError as error:
        return _fail(_BAD_INPUT, str(error))
    except (OSError, MemoryError) as error:
        return _fail(_FAILED, str(error) or type(error).__name__)
    return _OK


def _fail(code: int, message: str) -> int:
    """One line on stderr; a name in it may hold anything."""
    line = " ".join(message.split())
    shown = "".join(c if c.isprintable() else "\ufffd" for c in line)
    print(f"pseudolabel: {shown}", file=sys.stderr)  # noqa: T201
    return code
