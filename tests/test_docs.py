"""The documentation: its code runs and prints what it shows, its links lead somewhere, and the site
builds without a warning and asks nobody for anything.

Python blocks of a page run in one namespace, in an empty folder, one after the other; a ``text``
block right after one is what it prints. Commands run in the same folder. What cannot run here
stands under ``<!-- not run: reason -->``, and its options and files are still checked.
"""

import contextlib
import doctest
import importlib
import importlib.util
import io
import math
import re
import shlex
from html.parser import HTMLParser
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urldefrag, urlsplit

import numpy as np
import pytest
from strategies import drawn_as_shown

import pseudolabel.cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"]

# --- blocks of code ------------------------------------------------------------------------------

FENCE = re.compile(
    r"(?:^<!-- not run: *(?P<reason>.*?) *-->\n\s*)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SHOWN = {"text", "yaml", "toml", "html", "csv", "diff", "json"}
# Fewer heads, no t-SNE: the commands are what is tested, not how good the clusters are.
FASTER = {"cluster": ["--n-heads", "2", "--max-iter", "2"], "audit": []}


class Block(NamedTuple):
    language: str
    code: str
    reason: str | None
    line: int
    printed: str | None


def blocks(page):
    text = page.read_text()
    fences = list(FENCE.finditer(text))
    for fence, following in zip_longest(fences, fences[1:]):
        adjoins = following is not None and not text[fence.end() : following.start()].strip()
        printed = following["code"] if adjoins and following["language"] == "text" else None
        line = text.count("\n", 0, fence.start("code")) + 1
        yield Block(fence["language"], fence["code"], fence["reason"], line, printed)


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=drawn_as_shown if page.stem == "laws" else (), id=page.stem)
        for page in PAGES
    ],
)
def test_the_code_of_a_page_runs_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "__main__"}
    for block in blocks(page):
        if block.reason is not None:
            assert len(block.reason.split()) >= 3, f"{page.name}:{block.line}: why is it not run?"
        if block.language == "python" and block.reason is None:
            run_python(block, namespace, page)
        elif block.language == "python":
            compile(block.code, str(page), "exec")
        elif block.language in ("", "sh", "bash", "console"):
            for command in commands(block.code):
                check_command(command, block, f"{page.name}:{block.line}")
        else:
            assert block.language in SHOWN, f"{page.name}:{block.line}: {block.language}?"


def run_python(block, namespace, page):
    # Errors and warnings name the line of the page.
    code = "\n" * (block.line - 1) + block.code
    if ">>> " in block.code:
        test = doctest.DocTestParser().get_doctest(code, namespace, page.name, str(page), 0)
        said = io.StringIO()
        doctest.DocTestRunner().run(test, out=said.write, clear_globs=False)
        namespace.update(test.globs)
        assert not said.getvalue(), said.getvalue()
        return
    with contextlib.redirect_stdout(io.StringIO()) as output:
        exec(compile(code, str(page), "exec"), namespace)
    if block.printed is not None:
        printed = [line.rstrip() for line in output.getvalue().splitlines()]
        assert agrees(printed, block.printed.splitlines(), page), f"{page.name}:{block.line}"


def agrees(printed, shown, page):
    """Whether a page shows what was printed; one that says so, but for what training rounds."""
    if "<!-- rounded otherwise on other processors -->" not in page.read_text():
        return printed == shown
    got, expected = (
        re.split(rf"({NUMBER.pattern})", " ".join(lines)) for lines in (printed, shown)
    )
    words = [[part.split() for part in parts[::2]] for parts in (got, expected)]
    return words[0] == words[1] and all(
        math.isclose(float(a), float(b), rel_tol=0.005, abs_tol=0.006 if "." in b else 3)
        for a, b in zip(got[1::2], expected[1::2], strict=True)
    )


def commands(code):
    joined = code.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def check_command(words, block, where):
    """Runs ``pseudolabel ...``; of the rest, checks what can be checked without running it."""
    program, *arguments = words
    assert program != "$", f"{where}: a prompt cannot be pasted"
    if program == "pseudolabel" and block.reason is None:
        faster = [*FASTER[arguments[0]], "--map", "pca", "--quiet"]
        assert pseudolabel.cli.main([*arguments, *faster]) == 0, where
    elif program == "make":
        targets = [word for word in arguments if "=" not in word]
        rules = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(targets) <= set(rules), where
    elif program in ("pip", ".venv/bin/pip"):
        extras = re.findall(r"\[([\w,-]+)\]", " ".join(arguments))
        known = (ROOT / "pyproject.toml").read_text()
        for extra in ",".join(extras).split(",") if extras else []:
            assert re.search(rf"^{extra} = \[", known, re.MULTILINE), f"{where}: extra {extra}"
    else:
        assert block.reason is not None, f"{where}: {program} is not run; mark the block"
        if program == "python":
            check_script(arguments, where)


def check_script(arguments, where):
    script = ROOT / arguments[0]
    assert script.exists(), f"{where}: {script}"
    if script.parent.name == "examples" and script.stem in ("spice", "rpsc", "scan"):
        from common.settings import command_line

        method = importlib.import_module(script.stem)
        command_line(method.__doc__, method.PRESETS, arguments[1:])  # unknown options exit


def test_a_block_is_found_with_its_reason_and_what_it_prints(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs two GPUs -->\n```sh\ntorchrun x\n```\n\n"
        "```python\nprint(1)\n```\n\n```text\n1\n```\n"
    )
    first, second, third = blocks(page)
    assert (first.language, first.reason, first.line) == ("sh", "needs two GPUs", 3)
    assert (second.reason, second.printed, second.line) == (None, "1\n", 7)
    assert third.language == "text"
    with pytest.raises(AssertionError):
        run_python(second._replace(printed="2\n"), {}, page)
    with pytest.raises(AssertionError):
        check_command(["torchrun", "x"], first._replace(reason=None), "page")
    with pytest.raises(AssertionError):
        check_command(["pip", "install", ".[nonsense]"], first, "page")
    with pytest.raises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
        check_command(["python", "examples/spice.py", "digits", "--nonsense"], first, "page")


def test_what_is_trained_may_round_otherwise_and_no_more(tmp_path):
    page = tmp_path / "page.md"
    shown = ["ACC: 0.812, 1650 kept"]
    page.write_text("exact")
    assert agrees(shown, shown, page)
    assert not agrees(["ACC: 0.813, 1650 kept"], shown, page)
    page.write_text("<!-- rounded otherwise on other processors -->")
    assert agrees(["ACC: 0.813, 1651 kept"], shown, page)
    for other in ("ACC: 0.82, 1650 kept", "ACC: 0.812, 1600 kept", "NMI: 0.812, 1650 kept", ""):
        assert not agrees([other], shown, page)


# --- links in the sources ------------------------------------------------------------------------

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page):
    from markdown.extensions.toc import slugify

    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", heading), "-") for heading in headings}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: f"{text.parent.name}/{text.name}")
def test_relative_links_lead_to_files(text):
    for link in LINK.findall(FENCE.sub("", text.read_text())):
        if not urlsplit(link).scheme:
            path, anchor = urldefrag(link)
            target = (text.parent / path) if path else text
            assert target.exists(), link
            # Anchors in the reference are made by the build, whose own check has them.
            if anchor and not anchor.startswith("pseudolabel.") and target.suffix == ".md":
                assert anchor in anchors(target), link


# --- the site ------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a page links to, loads and defines."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.ids, self.equations = [], [], set(), 0
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.equations += tag == "math"
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and values.get("rel") != "canonical":
            self.loads.append(values["href"])
        elif "src" in values:
            self.loads.append(values["src"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site as `make docs` builds it: a warning is an error."""
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return {path: Page(path) for path in folder.rglob("*.html")}


def test_the_site_builds_strictly_and_works_offline(site):
    folder = next(path.parent for path in site if path.name == "404.html")
    assert folder / "reference.html" in site
    assert site[folder / "reference.html"].equations > 20
    for path, page in site.items():
        outside = [link for link in page.loads if urlsplit(link).scheme not in ("", "data")]
        assert not outside, f"{path.name} loads from elsewhere"
        text = path.read_text()
        assert "arithmatex" not in text, f"{path.name}: an equation is not MathML"
        assert ".. math::" not in text, path.name
        for link in [*page.links, *page.loads] if path.name != "404.html" else []:
            address, anchor = urldefrag(unquote(link))
            if not urlsplit(address).scheme:
                target = (path.parent / address).resolve() if address else path
                assert target.exists(), f"{path.name}: {link}"
                if anchor and target in site:
                    assert anchor in site[target].ids, f"{path.name}: {link}"
    for sheet in folder.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", sheet.read_text()), sheet.name


# --- pictures ------------------------------------------------------------------------------------


def picture_module():
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(svg):
    """An SVG as its text without numbers, and the numbers."""
    number = r"(?<![\w#])-?\d+\.?\d*(?:e-?\d+)?"
    return re.sub(number, "", svg), np.array([float(n) for n in re.findall(number, svg)])


def test_the_pictures_are_what_the_code_draws(tmp_path):
    pictures = picture_module()
    pictures.draw(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in pictures.FOLDER.glob("*.svg")}
    shown = {Path(link).name for page in PAGES for link in LINK.findall(page.read_text())}
    assert drawn <= shown, "a picture is on no page"
    for name in drawn:
        fresh, committed = ((folder / name).read_text() for folder in (tmp_path, pictures.FOLDER))
        version = re.compile(r"Matplotlib v([\d.]+)")
        # Another Matplotlib sets its type and ticks otherwise.
        if version.search(fresh)[1] == version.search(committed)[1]:
            (text, values), (expected, places) = numbers(fresh), numbers(committed)
            assert text == expected, name
            np.testing.assert_allclose(values, places, atol=0.5, err_msg=name)  # half a point
