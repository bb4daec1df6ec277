"""The documentation: its links hold, its reference is complete, it builds without a warning."""

import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from docs import reference
from lymphoml.cli.config import compose_config, known_keys
from lymphoml.cli.hydra_guard import check_command_line
from lymphoml.cli.main import COMMANDS
from lymphoml.cli.options import parse

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


def test_every_key_option_and_command_is_in_the_reference():
    page, commands = reference.configuration(), reference.commands()
    keys = {key for key in known_keys() if not re.match(r"data\.|pretrain\.|.*_target_$", key)}
    options = {f"{each.parent.relative_to(ROOT / 'conf')}={each.stem}"
               for each in ROOT.glob("conf/*/**/*.yaml")}  # fmt: skip
    alone = {"data=base", "pretrain=base", "model=mil", "trainer=auto"}
    named = keys | reference.schema_keys().keys() | options - alone
    assert [each for each in sorted(named) if f"\n| `{each}` |" not in page] == []
    assert "\n| `data.inner_val_fraction` | number ≥ 0, ≤ 0.5 | `0.0` | of the " in page
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", commands, re.M | re.S))
    found = {name: re.findall(r"^\| `(\w+)`", text, re.M) for name, text in sections.items()}
    assert found == {name: [each.name for each in dataclasses.fields(command)]
                     for name, command in COMMANDS.items()}  # fmt: skip


def read(page: Path) -> tuple[set[str], list[str]]:
    """Return a page's anchors, as GitHub and MyST make them of headings, and its links."""
    text = page.read_text(encoding="utf-8")
    tokens = MarkdownIt().enable("table").parse(text)
    heads = {re.sub(r"[^\w\- ]", "", text.content.lower()).replace(" ", "-")
             for head, text in pairwise(tokens) if head.type == "heading_open"}  # fmt: skip
    inner = [each for token in tokens for each in token.children or ()]
    links = [each.attrs.get("href") or each.attrs.get("src") for each in inner]
    return heads, [str(each) for each in links if each and not re.match(r"https?://\w", str(each))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_hold(page):
    for link in read(page)[1]:
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not anchor or anchor in read(target)[0], link


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the words of every command on a page, from the name of the command on."""
    values: dict[str, str] = {}
    for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
        if set_here := re.fullmatch(r"\s*([A-Z]+)=[\"']?([^\"'`]+)[\"']?", line):
            values[set_here[1]] = set_here[2]
        alone = [line] if re.match(r"\s*(\S+/)?python ", line) else []
        for text in alone or re.findall(r"`(python [^`]+)`", line):
            text = re.sub(r"\$([A-Z]+)", lambda name: values.get(name[1], "0"), text)
            _, *words = shlex.split(re.split(r" [#|&]", text)[0])
            words = words[2:] if words[:2] == ["-m", "lymphoml"] else words
            known = words and words[0].removesuffix(".py") in {"train", *COMMANDS}
            if known and len(words) > 1 and "..." not in text:
                yield words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_taken(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for name, *words in commands(page):
        if name.startswith("train"):
            check_command_line(words)
        else:
            parse(COMMANDS[name.removesuffix(".py")], words)


def test_frequent_choices_are_those_there_are():
    section = (ROOT / "docs/configuration.md").read_text().partition("<!--")[0]
    choices = re.findall(r"^\| `([^`]+=[^`]+)`", section, re.M)
    assert len(choices) > 20
    for choice in choices:
        compose_config(*shlex.split(re.sub("FILE$", "default", re.sub("NAME$", "paper", choice))))


@pytest.mark.slow
@pytest.mark.timeout(1200)  # it executes the tutorial
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    words = ["-m", "sphinx", "-W", "--keep-going", "-n", "-q", "-c", "docs", ".", str(tmp_path)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "error:" not in (tmp_path / "docs/tutorial.html").read_text()
    pages = "".join(page.read_text() for page in tmp_path.rglob("*.html"))
    assert (
        re.findall(r"<(?:script|img|iframe|link)\b[^>]*(?:src|href)=\"(?:https?:)?//", pages) == []
    )
