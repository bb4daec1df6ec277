"""A whole life of a run with canaries in its input and no network, for the tests to search."""

import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image, PngImagePlugin

from tests.fake_kaggle import COMPETITION, TOKEN, FakeKaggle
from tests.promises.jobs import ROOT, end, wait_until
from tests.promises.search import date_needles, word_needles

PATIENTS = 25  # 5 of them without a label
REFERENCE = date(2020, 1, 1)
USER, HOST, PERSON = "kanarienutzer", "kanarienwirt", "Wilhelmina Quastenflosser"
ARCHIVE, PATIENT, IMAGE = "Quastenarchiv", "Zeisig", "gimpelbild"
ENCODER = "test_resnet"  # timm's smallest


@dataclass
class Journey:
    home: Path  # everything is below it
    steps: list[subprocess.CompletedProcess[str]] = field(default_factory=list)
    submissions: int = 0  # that reached the stand-in

    @property
    def cohort(self) -> Path:
        return self.home / ARCHIVE / "cohort"

    @property
    def work(self) -> Path:
        return self.home / "work"

    @property
    def runs(self) -> list[Path]:
        return sorted(path for path in (self.work / "runs" / "cv").iterdir() if path.is_dir())

    @property
    def network_attempts(self) -> list[str]:
        log = self.home.parent / "sockets.log"
        return log.read_text().splitlines() if log.exists() else []

    def environment(self) -> dict[str, str]:
        unwanted = ("WANDB_", "XDG_", "KAGGLE_", "PYTEST_CURRENT_TEST")
        kept = {name: each for name, each in os.environ.items() if not name.startswith(unwanted)}
        (self.home / "tmp").mkdir(exist_ok=True)
        guarded = Path(__file__).parent / "guarded"
        return kept | {
            "HOME": str(self.home), "USER": USER, "LOGNAME": USER, "HOSTNAME": HOST,
            "TMPDIR": str(self.home / "tmp"), "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": f"{guarded}{os.pathsep}{ROOT}", "HOST_CANARY": HOST,
            "SOCKET_LOG": str(self.home.parent / "sockets.log"),
        }  # fmt: skip

    def start(self, *words: str, **more: str) -> subprocess.Popen[str]:
        """In a network and a host name of its own where the system lets, unless on loopback."""
        alone = () if more.get("LOOPBACK") else own_network()
        return subprocess.Popen(
            [*alone, sys.executable, *words], cwd=self.work, env=self.environment() | more,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, umask=0,
        )  # fmt: skip

    def do(self, *words: str, ends: tuple[int, ...] = (0,), **more: str) -> None:
        process = self.start(*words, **more)
        out, err = process.communicate(timeout=400)
        self.steps.append(subprocess.CompletedProcess(words, process.returncode, out, err))
        assert process.returncode in ends, f"{' '.join(words)}: {out}\n{err}"

    def command(self, *words: str, **more: Any) -> None:
        self.do("-m", "lymphoml", *words, **more)


@cache
def own_network() -> tuple[str, ...]:
    """Return the words before a command without a network and under HOST; () if forbidden."""
    words = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--net", "--uts",
             "sh", "-c", f'hostname {HOST} && exec "$@"', "sh")  # fmt: skip
    if not shutil.which("unshare"):
        return ()
    tried = subprocess.run([*words, "true"], stderr=subprocess.DEVNULL)
    return () if tried.returncode else words


def birth_dates(patients: int = PATIENTS) -> list[date]:
    """Before 1970 and after the 12th, so that no way of writing one is short or ambiguous."""
    draw = np.random.default_rng(0)
    found = [date(1925, 1, 13) + timedelta(days=int(draw.integers(16000))) for _ in range(patients)]
    return [each.replace(day=13 + each.day % 16) for each in found]


def canaries() -> dict[str, list[bytes]]:
    """Return what is never to be written: birth dates, a person, paths, user and host."""
    words = [USER, HOST, PERSON, PERSON.split()[1], ARCHIVE, str(ROOT), sys.prefix]
    words += [socket.gethostname()] * (len(socket.gethostname()) > 5)  # shorter: found by chance
    dates = {f"birth date {each}": date_needles(each, REFERENCE) for each in birth_dates()}
    return {word: word_needles(word) for word in words} | dates


def make_cohort(folder: Path, patients: int = PATIENTS) -> None:
    """Write a table and folders as in docs/data.md; every fifth patient has no label."""
    draw = np.random.default_rng(1)
    folder.mkdir(parents=True)
    rows = []
    for number, born in enumerate(birth_dates(patients)):
        patient, label = f"{PATIENT}{number:02}", number % 2 if number % 5 else -1
        written = f"{born:%Y-%m-%d}" if number % 3 else f"{born:%d/%m/%Y}"
        rows.append((patient, label, "" if number == 7 else written, "FM"[number // 2 % 2],
                     round(3 + 9 * draw.random(), 2), PERSON))  # fmt: skip
        (folder / "images" / patient).mkdir(parents=True)
        for index in range(2):
            pixels = draw.integers(0, 255, (16, 16, 3), np.uint8)
            path = folder / "images" / patient / f"{IMAGE}{index}"
            _save(Image.fromarray(pixels), path, f"{PERSON}, {born:%d.%m.%Y}")
    columns = ["ID", "LABEL", "DOB", "GENDER", "LYMPH_COUNT", "NAME"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "clinical.csv", index=False)


def _save(image: Image.Image, path: Path, words: str) -> None:
    """Save with the words in EXIF and a comment, or in PNG's text, plain and compressed."""
    if path.name.endswith("0"):
        exif = Image.Exif()
        exif[270], exif[315] = words, words  # description, artist
        image.save(path.with_suffix(".jpg"), exif=exif, comment=words.encode())
    else:
        text = PngImagePlugin.PngInfo()
        text.add_text("Patient", words)
        text.add_text("Comment", words, zip=True)
        image.save(path.with_suffix(".png"), pnginfo=text)


def travel(home: Path) -> Journey:
    """Run every step; each is asserted to end as it should."""
    import timm

    it = Journey(home)
    it.work.mkdir(parents=True)
    make_cohort(it.cohort)
    weights = it.home / ARCHIVE / "weights.pt"
    torch.save(timm.create_model(ENCODER, num_classes=0).state_dict(), weights)
    root, cache = f"data.root={it.cohort}", f"data.cache={it.home / 'images'}"
    train = [str(ROOT / "train.py"), "-m", "lr=1e-3,1e-4", "data=table", root, cache,
             "data.missing=impute", "data.folds=2", "data.num_workers=1", "model/encoder=timm",
             f"model.encoder.name={ENCODER}", f"model.encoder.weights={weights}",
             "model.encoder.norm=frozen",
             "trainer.max_epochs=2", "trainer.num_threads=1", "trainer.accelerator=cpu",
             "trainer.precision=32-true", "logger.mode=offline",
             "data.hard_stratum=null"]  # fmt: skip

    it.command("audit", "cohort=table", root, "data.missing=impute", "data.folds=2",
               "out=seen.json", ends=(0, 1))  # fmt: skip
    single = [word.partition(",")[0] for word in train if word != "-m"]
    blocked = it.work / "runs" / "raised" / "fold-0" / "history.csv"
    blocked.mkdir(parents=True)  # an error at the first epoch's end
    it.do(*single, "hydra.run.dir=runs/raised", ends=(1,))
    blocked.rmdir()
    process = it.start(*train)
    wait_until(lambda: list(it.work.glob("runs/cv/*/fold-0/last.ckpt")), 200)
    end(process)
    it.do(*train)
    name = f"run={it.runs[0].relative_to(it.work)}"
    it.command("triage", name, "sensitivity=0.5")
    it.do(str(ROOT / "predict.py"), name, root, cache, "trainer.accelerator=cpu")
    it.command("explain", name, root, cache, "methods=[leave_one_out,occlusion]", "pictures=1",
               "checks=false")  # fmt: skip
    it.command("compare", "runs=runs/cv", "resamples=100")
    it.command("report", "runs=runs/cv", root, "audit=seen.json")
    with FakeKaggle().serving() as server:
        there = server.environment(it.home) | {"KAGGLE_API_TOKEN": TOKEN, "LOOPBACK": "1"}
        it.command("submit", name, "message=of a test", f"competition={COMPETITION}", **there)
        it.submissions = len(server.submissions)
    return it
