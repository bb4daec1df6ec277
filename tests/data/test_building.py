"""What happens while a store is built: damage, neighbours, kills, disks that run full."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lymphoml.core import files
from lymphoml.core.errors import InputError, RuntimeFailure
from lymphoml.data import decoding, image_store

ROOT = Path(__file__).parents[2]
# Opens the store of the test's images; each decoding is logged, P2's waits while a file is there.
CHILD = """
import sys, time
from pathlib import Path
from lymphoml.data import patient_stain
from lymphoml.data.images import read_images

folder, cache = map(Path, sys.argv[1:])
decode = decoding.decode

def logged(path, *rest):
    with (folder / "log").open("a") as log:
        log.write(f"{path}\\n")
    while path.parent.name == "P2" and (folder / "hold").exists():
        time.sleep(0.01)
    return decode(path, *rest)

decoding.decode = logged
patients = sorted((folder / "cohort").iterdir())
images = {patient.name: tuple(sorted(patient.iterdir())) for patient in patients}
data = {"cache": cache, "crop": None, "resize": None, "stain_norm": None}
store, _ = read_images(images, data)
assert "torch" not in sys.modules
"""


@pytest.fixture
def child(tmp_path):
    """Starts a process that opens the store; whatever it prints is one text."""
    started = []

    def start(stdout=subprocess.PIPE):
        words = [sys.executable, "-c", CHILD, str(tmp_path), str(tmp_path / "cache")]
        started.append(subprocess.Popen(words, cwd=ROOT, stdout=stdout, stderr=stdout, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_until(true):
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def same_pixels(store, images):
    for patient, paths in images.items():
        expected = np.stack([np.asarray(Image.open(path)) for path in paths])
        np.testing.assert_array_equal(store.bag(patient), expected)


def test_a_changed_added_or_removed_image_rebuilds_its_patient_alone(images, opened, parts):
    opened()
    before = parts()
    Image.new("RGB", (20, 20)).save(images["P1"][1])
    longer = images | {"P10": images["P10"] * 2, "P2": images["P2"][:2]}
    for changed, rebuilt in ((images, 1), (longer, 2)):
        same_pixels(opened(changed), changed)
        after = parts()
        assert len(after) == len(before) + rebuilt
        assert {path: after[path] for path in before} == before
        before = after


def test_cohorts_share_what_they_have_in_common(images, opened, monkeypatch):
    opened()
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("decoded again"))
    opened({"other id": images["P2"], "P1": images["P1"]})


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    os.truncate(path, path.stat().st_size - 1)


def flip(path):
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)


def other_version(path):
    """A whole part, but of the images of another version."""
    (old,) = (each for each in path.parents[1].glob("v1,*/*.npy") if each.stat().st_size > 3000)
    shutil.copy(old, path)


@pytest.mark.parametrize(("spoil", "reason"), [
    (empty, "empty"),
    (truncate, "truncated or corrupted"),
    (flip, "truncated or corrupted"),
    (other_version, "truncated or corrupted"),
])  # fmt: skip
def test_a_damaged_part_alone_is_rebuilt_in_silence_but_for_a_line(
    images, opened, parts, monkeypatch, capsys, spoil, reason
):
    with monkeypatch.context() as earlier:
        earlier.setattr("lymphoml.data.decoding.VERSION", 1)
        opened()
    old = parts()
    opened()
    assert len(parts()) == 2 * len(old)
    before = parts()
    damaged = max(set(before) - set(old), key=lambda path: path.stat().st_size)
    spoil(damaged)
    os.utime(damaged, ns=(0, 0))
    capsys.readouterr()
    same_pixels(opened(), images)
    after = parts()
    assert after.pop(damaged) > before.pop(damaged)
    assert after == before
    told, building_line = capsys.readouterr().out.splitlines()
    assert told == f"image store: damaged parts are built anew: 1 {reason}"
    assert ": decoding 3 images, " in building_line


def test_what_is_built_where_and_how_large_is_told_before(images, opened, tmp_path, capsys):
    opened(crop=10)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"image store {tmp_path}/cache/images/v")
    need = 6 * 10 * 10 * 3 + 3 * (128 + 32)
    assert f"decoding 6 images, 2.3 kB ({need:,} bytes); " in line
    stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.npy"))
    assert stored == need


def test_a_terminal_shows_images_and_time_left(images, child, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    terminal, inside = os.openpty()
    process = child(stdout=inside)
    os.close(inside)
    shown = b""
    with suppress(OSError):  # how Linux says that the other side was closed
        while chunk := os.read(terminal, 1 << 16):
            shown += chunk
    os.close(terminal)
    assert process.wait() == 0
    assert b"decoding images" in shown
    assert b"6/6" in shown
    assert b"0:00:00" in shown


def test_two_processes_build_each_part_once_and_the_second_says_that_it_waits(
    images, child, tmp_path, opened
):
    (tmp_path / "hold").touch()
    first = child()
    wait_until((tmp_path / "log").exists)
    second = child()
    assert "waiting for another process" in second.stdout.readline()
    (tmp_path / "hold").unlink()
    told = first.communicate()[0], second.communicate()[0]
    assert (first.returncode, second.returncode) == (0, 0), told
    assert not told[1]
    decoded = sorted((tmp_path / "log").read_text().splitlines())
    assert decoded == sorted(str(path) for paths in images.values() for path in paths)
    same_pixels(opened(), images)


def test_two_processes_that_start_together_decode_each_image_once(images, child, tmp_path):
    started = child(), child()
    told = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    decoded = sorted((tmp_path / "log").read_text().splitlines())
    assert decoded == sorted(str(path) for paths in images.values() for path in paths)


def test_a_killed_build_keeps_its_finished_parts_and_blocks_nobody(
    images, child, tmp_path, opened, parts
):
    (tmp_path / "hold").touch()
    process = child()
    # P2's first image is reached after the parts of P1 and P10, or beside them.
    wait_until(lambda: len(parts()) == 2 and "P2" in (tmp_path / "log").read_text())
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = parts()
    folder = next(iter(finished)).parent
    assert len(list(folder.glob(".*.npy.*"))) == 1
    same_pixels(opened(), images)
    assert {path: parts()[path] for path in finished} == finished
    assert len(parts()) == 3
    assert not list(folder.glob(".*.npy.*"))


def test_too_little_space_is_one_line_before_anything_is_decoded(images, opened, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
    monkeypatch.setattr(decoding, "decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(RuntimeFailure) as refused:
        opened()
    (line,) = refused.value.problems
    assert "needs 7.7 kB, only 5.0 kB are free there; make room, or set data.cache=DIR" in line


def test_a_disk_that_runs_full_is_one_line_and_keeps_finished_parts(
    images, opened, parts, monkeypatch, tmp_path
):
    def full(handle, fsync=os.fsync):
        if parts():
            raise OSError(28, "No space left on device")
        fsync(handle)

    monkeypatch.setattr(image_store.os, "cpu_count", lambda: 1)
    with monkeypatch.context() as running:
        running.setattr(files.os, "fsync", full)
        with pytest.raises(RuntimeFailure) as refused:
            opened()
    (line,) = refused.value.problems
    assert f"{tmp_path}/cache/images/" in line
    assert "(No space left on device); it needs 7.7 kB: make room, or set data.cache=DIR" in line
    (finished,) = before = parts()
    assert {path.name for path in finished.parent.iterdir()} == {finished.name, ".lock"}
    same_pixels(opened(), images)
    assert parts()[finished] == before[finished]


# Runs CHILD where a file system says that it has room, but takes two of three parts.
MOUNT = 'mount -t tmpfs -o size=8k none "$0" && exec "$@"'
FULL = """
import shutil, sys, types
from lymphoml.errors import RuntimeFailure
shutil.disk_usage = lambda _: types.SimpleNamespace(free=10**9)
try:
    exec(sys.argv.pop())
except RuntimeFailure as error:
    print(error)
print(*sorted(path.name for path in cache.glob("images/*/*")), sep="\\n")
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="only Linux lets anybody mount")
def test_a_full_file_system_is_one_line_and_keeps_finished_parts(images, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    python = [sys.executable, "-c", FULL, tmp_path, cache, CHILD]
    words = ["unshare", "-rm", "sh", "-c", MOUNT, cache, *python]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    if done.stderr.startswith(("unshare:", "mount:")):
        pytest.skip(done.stderr)
    _, refused, *left = done.stdout.splitlines()
    assert "(No space left on device); it needs 7.7 kB" in refused
    assert [Path(name).suffix for name in sorted(left)] == ["", ".npy", ".npy"]


def test_a_cache_that_cannot_be_made_is_one_line(images, opened, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/images/.* \(Not a directory\).* data.cache=DIR"):
        opened(cache=tmp_path / "file")
