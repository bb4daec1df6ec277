"""The documentation: its links hold, its reference is complete, it builds without a warning."""

import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from lymphoml.cli.config import known_keys
from lymphoml.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.ipynb")]


@pytest.fixture(scope="module")
def reference():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "docs")
        import reference

        yield reference


def test_every_key_and_option_is_in_the_reference(reference):
    page = reference.configuration()
    groups = {f"{path.parent.relative_to(ROOT / 'conf')}={path.stem}": path.stem
              for path in ROOT.glob("conf/*/**/*.yaml")}  # fmt: skip
    alone = ("base", "mil", "auto")  # not options to choose from
    keys = {key for key in known_keys() if not key.startswith(("pretrain.", "data."))}
    keys = {key for key in keys if not key.endswith("_target_")} | reference.schema_keys().keys()
    assert [each for each in sorted(keys) if f"\n| `{each}` |" not in page] == []
    assert [each for each, stem in groups.items() if stem not in alone
            and f"\n| `{each}` |" not in page] == []  # fmt: skip
    (row,) = [line for line in page.splitlines() if line.startswith("| `data.inner_val_fraction`")]
    assert row.startswith("| `data.inner_val_fraction` | number ≥ 0, ≤ 0.5 | `0.0` | of the ")
    assert row.endswith("a half, a third, ... |")  # of a comment of two lines


def test_every_command_and_option_is_in_the_reference(reference):
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", reference.commands(), re.M | re.S))
    assert sections.keys() == COMMANDS.keys()
    for name, command in COMMANDS.items():
        found = re.findall(r"^\| `(\w+)` \|", sections[name], re.MULTILINE)
        assert found == [each.name for each in dataclasses.fields(command)]


def read(page: Path) -> tuple[set[str], list[str]]:
    """Return a page's anchors, as GitHub and MyST make them of headings, and its links."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    tokens = MarkdownIt().enable("table").parse(text)
    heads = {re.sub(r"[^\w\- ]", "", inline.content.lower()).replace(" ", "-")
             for head, inline in pairwise(tokens)
             if head.type == "heading_open"}  # fmt: skip
    children = [each for token in tokens for each in token.children or ()]
    return heads, [str(each.attrs.get("href") or each.attrs["src"]) for each in children
                   if each.type in ("link_open", "image")]  # fmt: skip


def broken_links(pages: list[Path]) -> Iterator[str]:
    for page in pages:
        for link in read(page)[1]:
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            if re.match(r"https?://[\w.-]+\.\w+(/\S*)?$", link):  # nothing here asks the network
                continue
            if not target.exists() or (anchor and anchor not in read(target)[0]):
                yield f"{page.relative_to(ROOT)}: {link}"


def test_links_hold():
    assert len(PAGES) > 25
    assert list(broken_links(PAGES)) == []


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it executes the tutorial
def test_the_site_builds_without_a_warning_and_asks_nobody(tmp_path):
    pytest.importorskip("myst_nb")
    words = ["-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c", "docs", ".", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tutorial = (tmp_path / "docs/tutorial.html").read_text()
    assert "data:image/png" in tutorial or "_images" in tutorial
    assert "error:" not in tutorial
    assets = r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=[\"']?(?:https?:)?//[^>]*>"
    found = [
        hit for page in tmp_path.rglob("*.html") for hit in re.findall(assets, page.read_text())
    ]
    assert found == []
