"""The command line of `python -m lymphoml`: its options, its help, how it ends."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lymphoml.cli.cohort_commands import Synthesize
from lymphoml.cli.main import COMMANDS, main
from lymphoml.cli.options import parse, parse_run_list
from lymphoml.cli.predict_commands import Predict
from lymphoml.cli.run_commands import Submit
from lymphoml.core.errors import InputError

ROOT = Path(__file__).parents[2]


def test_words_are_typed():
    assert parse(Synthesize, ["out=x", "images=[3,9]"]).images == [3, 9]
    assert parse(Predict, ["run=r", "data.root=d"]).data == {"root": "d"}
    message = "ResNet18: it's 50 % [better], {really}"
    assert parse(Submit, ["run=r", f"message={message}"]).message == message
    assert parse(Predict, ["run='runs/cv/lr=0.1,optim=sgd'"]).run == "runs/cv/lr=0.1,optim=sgd"
    assert parse(Predict, ["out=null"]).out is None


TEXTS = [(command, field.name) for command, kind in COMMANDS.items()
         for field in dataclasses.fields(kind) if field.type in (str, str | None)]  # fmt: skip


@pytest.mark.parametrize(("command", "key"), TEXTS)
def test_text_arrives_as_typed(command, key):
    kind = COMMANDS[command]
    needed = [f"{each}=x" for each in OmegaConf.missing_keys(OmegaConf.structured(kind))]
    for text in ("0012", "1e3", "no", "a #b", "12:30", "1_000", "*.png"):
        words = [*(word for word in needed if not word.startswith(f"{key}=")), f"{key}={text}"]
        assert getattr(parse(kind, words), key) == text


def test_a_patients_values_arrive_as_typed():
    words = ["run=r", "images=0012", "age=067", "values.sex=no"]
    assert parse(Predict, words).values == {"age": "067", "sex": "no"}
    assert parse(Predict, ["run=r", "values={age: 067}"]).values == {"age": "067"}
    assert parse(Predict, ["run=r", "images="]).images is None
    for wrong in ("age=${", "age=${foo}"):
        with pytest.raises(InputError, match="age="):
            parse(Predict, ["images=d", wrong])
    with pytest.raises(InputError, match="quote it"):
        parse(Predict, ["run=r", "data.root=/data/study #2"])


@pytest.mark.parametrize(("words", "message"), [
    (["out=x", "patients=many"], "patients=many"),
    (["out=x", "patient=3"], "patient"),
    (["patients=3"], "out=...: this option is required"),
    (["out"], "key=value"),
    (["out=x", "images=[3,9"], "images"),
])  # fmt: skip
def test_a_wrong_word_is_named(words, message):
    with pytest.raises(InputError, match=message):
        parse(Synthesize, words)


def test_a_run_with_a_comma_in_its_name_is_quoted(tmp_path):
    for name in ("a,b", "c"):
        (tmp_path / name).mkdir()
    text = f'["{tmp_path}/a,b",{tmp_path}/c]'
    assert parse_run_list(text) == [tmp_path / "a,b", tmp_path / "c"]
    for wrong in ("[]", "[a, [", "[a,b]"):
        with pytest.raises(InputError, match="runs="):
            parse_run_list(wrong)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_every_option(name, capsys):
    main([name, "--help"])
    shown = capsys.readouterr().out
    assert all(f"  {key.name} " in shown for key in dataclasses.fields(COMMANDS[name]))
    main(["--help"])
    assert f"  {name} " in capsys.readouterr().out


def test_an_unknown_command_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["tran"])
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("error: tran: must be one of audit, ")


def test_train_is_a_command_as_well():
    outputs = [
        subprocess.run([sys.executable, *words, *(f"--cfg={part}", "optim=adam")], cwd=ROOT,
                       capture_output=True, text=True, check=True).stdout
        for part in ("job", "hydra")
        for words in (["train.py"], ["-m", "lymphoml", "train"])
    ]  # fmt: skip
    outputs[2:] = [text.replace(str(ROOT), "") for text in outputs[2:]]
    assert outputs[0] == outputs[1]
    assert "_target_: torch.optim.Adam" in outputs[0]


@pytest.mark.parametrize(("words", "most"), [
    (["train.py", "--help"], "import hydra"),
    (["-m", "lymphoml", "predict", "--help"], "import omegaconf"),
])  # fmt: skip
def test_help_is_instant(words, most):
    def seconds(*given: str) -> float:
        before = os.times().children_user + os.times().children_system
        subprocess.run([sys.executable, *given], cwd=ROOT, check=True, capture_output=True)
        return os.times().children_user + os.times().children_system - before

    seconds(*words)  # compiles
    assert min(seconds(*words), seconds(*words)) < seconds("-c", most) + 0.3
