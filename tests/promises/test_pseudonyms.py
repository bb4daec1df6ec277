"""Pseudonyms"""

import base64
import hmac
import re
import subprocess
import sys

import pytest

from lymphoml.core.errors import InputError
from lymphoml.reports.page import pseudonyms as module
from lymphoml.reports.page.pseudonyms import key_file, pseudonyms, read_key
from tests.promises.journey import ROOT


def mode(path):
    return path.stat().st_mode & 0o777


@pytest.mark.promise(
    "pseudonyms under two keys, and of thousands of patients",
    "each is the HMAC-SHA256 of its id, all differ, and another key gives others",
)
@pytest.mark.parametrize("count", [163, 20_000])
def test_pseudonyms_are_keyed_and_all_different(count, record_property):
    patients = [f"P{number}" for number in range(count)]
    named = pseudonyms(patients, b"k" * 32)
    for patient in patients[:100]:
        digest = hmac.new(b"k" * 32, patient.encode(), "sha256").digest()
        code = named[patient].removeprefix("P-")
        assert base64.b32encode(digest).decode().startswith(code)
        assert re.fullmatch("[A-Z2-7]{6,9}", code)
    assert len(set(named.values())) == count
    assert not set(named.values()) & set(pseudonyms(patients, b"l" * 32).values())
    assert pseudonyms(patients[::-1], b"k" * 32) == named
    record_property("tried", count)


def test_pseudonyms_grow_until_they_differ(monkeypatch):
    monkeypatch.setattr(module, "MIN_LENGTH", 1)
    named = pseudonyms([f"P{number}" for number in range(100)], b"k" * 32)
    (length,) = {len(name) for name in named.values()}
    assert len(set(named.values())) == 100
    assert length > len("P-") + 1


MAKE = "import os; os.umask(0); from lymphoml.reports.page.pseudonyms import read_key; print(read_key().hex())"


@pytest.mark.promise("six processes that need the key before there is one", "one key, mode 0600")
def test_the_key_is_made_once_and_is_its_owners(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    words = [sys.executable, "-c", MAKE]
    started = [subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(6)]
    keys = {process.communicate()[0].decode().strip() for process in started}
    assert keys == {read_key().hex()}
    assert mode(key_file()) == 0o600
    assert mode(key_file().parent) == 0o700
    assert len(read_key()) == 32


def test_a_damaged_key_and_one_that_cannot_be_made_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    key_file().parent.mkdir()
    key_file().write_bytes(b"short")
    with pytest.raises(InputError, match="must have 32 bytes"):
        read_key()
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set XDG_CONFIG_HOME"):
        read_key()
