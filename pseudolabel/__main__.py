"""``python -m pseudolabel``: the command, see `pseudolabel.cli`."""

from pseudolabel.cli import entry

if __name__ == "__main__":
    entry()
