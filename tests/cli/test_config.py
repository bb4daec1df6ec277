"""Every option of every group composes and builds; what is wrong is refused by name."""

from pathlib import Path

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from lymphoml.cli.commands.predict import Predict
from lymphoml.cli.commands.submit import Submit
from lymphoml.cli.commands.synthesize import Synthesize
from lymphoml.cli.config import validate
from lymphoml.cli.options import parse
from lymphoml.core.errors import InputError
from lymphoml.models.build import build_model, takes_features
from lymphoml.runs.naming import leaves, slug
from lymphoml.runs.provenance import command_line
from lymphoml.runs.settings import reject_unused_options
from lymphoml.training.lightning_module import BagClassifier

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"


def configured(*overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return validate(compose("train", overrides=list(overrides)))


SET = "data.table=clean1.data"  # mil_table has no file of its own


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


@pytest.mark.parametrize("encoder", options("model/encoder"))
def test_every_encoder_builds(encoder):
    spec = configured(f"model/encoder={encoder}")["model"]
    features = takes_features(spec)
    model = build_model(spec, clinical_dim=2, feature_dim=5 if features else None)
    images = torch.rand(3, 5) if features else torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        logits = model.eval()(images, torch.tensor([1, 2]), torch.rand(2, 2))
    assert logits.shape == (2,)


@pytest.mark.parametrize(
    ("pooling", "fusion"),
    [(pooling, "concat") for pooling in options("model/pooling")]
    + [("mean", fusion) for fusion in options("model/fusion")],
)
def test_every_pooling_and_fusion_builds(pooling, fusion):
    spec = configured(f"model/pooling={pooling}", f"model/fusion={fusion}")
    assert build_model(spec["model"], clinical_dim=3).fusion is not None


@pytest.mark.parametrize(
    ("word", "told"),
    [("loss.label_smoothing=0.1", "loss.label_smoothing=0.1"),
     ("weight_averaging=ema", "weight_averaging.kind=ema"),
     ("model.instance_dropout=0.2", "model.instance_dropout=0.2"),
     ("trainer.max_epochs=3", "trainer.max_epochs=3: .*; set trainer.max_epochs=1")],
)  # fmt: skip
def test_settings_of_steps_are_refused_where_all_is_fitted(word, told):
    reject_unused_options(configured("experiment=best"))
    with pytest.raises(InputError, match=f"^{told}"):
        reject_unused_options(configured("experiment=best", word))


def test_instance_dropout_reaches_the_model():
    spec = configured("model.instance_dropout=0.25")["model"]
    assert build_model(spec, clinical_dim=3).instance_dropout == 0.25
    del spec["instance_dropout"]  # as in a run of older code
    assert build_model(spec, clinical_dim=3).instance_dropout == 0.0


@pytest.mark.parametrize("optim", options("optim"))
@pytest.mark.parametrize("scheduler", options("scheduler"))
def test_every_optimiser_and_scheduler_builds(optim, scheduler):
    config = configured(f"optim={optim}", f"scheduler={scheduler}", "model/fusion=clinical")
    first = {"one_cycle": 1e-4 / 25, "cosine_with_warmup": 1e-4 / 4}
    assert rates(config, epochs=1) == pytest.approx([first.get(scheduler, 1e-4)])


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_builds(experiment):
    config = configured(f"experiment={experiment}", *[SET] * (experiment == "mil_table"))
    encoder = config["model"]["encoder"]
    if "weights" in encoder:
        encoder["weights"] = None  # a download
    assert rates(config, epochs=2)


@pytest.mark.parametrize("experiment", options("experiment"))
@pytest.mark.parametrize("group", ["data", "trainer", "logger"])
def test_every_other_option_composes(group, experiment):
    for option in options(group):
        if option == "mil_table" != experiment:  # has no clinical columns, which others change
            continue
        words = [f"{group}={option}", f"experiment={experiment}"]
        if option == "table":
            words.append("data.root=somewhere")
        bags = "mil_table" in (option, experiment)
        assert configured(*words, *[SET] * bags).data.clinical or bags


def rates(config, epochs):
    module = BagClassifier(config["model"], config["optim"], config["scheduler"], 2)
    made = module.configure_optimizers()
    (optimizer,), schedulers = made if isinstance(made, tuple) else ([made], [])
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return seen


@pytest.mark.parametrize(("scheduler", "expected"), [
    ("exponential", [1e-4, 0.95e-4, 0.9025e-4, 0.857375e-4]),
    ("none", [1e-4] * 4),
    ("cosine", [1e-4, 0.8535533905932737e-4, 0.5e-4, 0.14644660940672627e-4]),
    ("one_cycle", [0.04e-4, 1e-4, 0.500002e-4, 4e-10]),
    ("cosine_with_warmup", [0.25e-4, 0.5e-4, 0.75e-4, 1e-4]),
])  # fmt: skip
def test_learning_rates_epoch_by_epoch(scheduler, expected):
    config = configured(f"scheduler={scheduler}", "model/fusion=clinical", "trainer.max_epochs=4")
    if scheduler == "one_cycle":
        config["scheduler"]["pct_start"] = 0.5  # the top at a whole epoch
    assert rates(config, 4) == pytest.approx(expected, rel=1e-12)


def test_warm_up_comes_before_the_cosine_and_leaves_an_epoch_for_it():
    words = ["scheduler=cosine_with_warmup", "model/fusion=clinical", "trainer.max_epochs=6"]
    assert rates(configured(*words, "scheduler.warmup_epochs=2"), 6) == pytest.approx(
        [1e-4 / 3, 2e-4 / 3, 1e-4, 0.8535533905932737e-4, 0.5e-4, 0.14644660940672627e-4], rel=1e-12
    )
    plain = configured("scheduler=cosine", *words[1:])
    assert rates(configured(*words, "scheduler.warmup_epochs=0"), 6) == pytest.approx(
        rates(plain, 6), rel=1e-12
    )
    for warmup in (6, -1):
        with pytest.raises(InputError, match=f"warmup_epochs is {warmup}; must be"):
            rates(configured(*words, f"scheduler.warmup_epochs={warmup}"), 1)


@pytest.mark.parametrize(("overrides", "message"), [
    (["data.crop=0"], "data.crop=0: must be >= 1"),
    (["data.augment.rotate=7"], "data.augment.rotate=7: must be true or false or any"),
    (["data.eval_tta=2"], "data.eval_tta=2: must be one of 1, 8"),
    (["trainer.encoder_chunk_size=0"], "trainer.encoder_chunk_size=0: must be >= 1 or auto"),
    (["trainer.max_epochs=1.5"], "trainer.max_epochs=1.5: must be a whole number"),
    (["loss.pos_weight=all"], "loss.pos_weight=all: must be a number or balanced"),
    (["trainer.patience=3"], "trainer.patience needs data.inner_val_fraction above 0"),
    (["trainer.check_val_every_n_epoch=21"], "must be <= trainer.max_epochs=20"),
    (["fold=5"], "fold=5: must be all or 0 to 4"),
    (["loss.label_smoothing=1"], "loss.label_smoothing=1: must be < 1"),
    (["weight_averaging=ema", "weight_averaging.decay=1"], "weight_averaging.decay=1: must be < 1"),
    (["weight_averaging=swa", "weight_averaging.start=null"], "weight_averaging.start: must be"),
    (["weight_averaging=ema", "+weight_averaging.start=0.5"], "weight_averaging=ema"),
    (["weight_averaging.kind=mean"], "weight_averaging.kind=mean: must be one of ema, swa"),
    (["+data.crp=3"], "data.crp: no such key"),
    (["+logger.mod=offline"], "logger.mod: no such key"),
    (["data.columns.age.kind=years"], "data.columns.age.kind=years: must be one of numeric, cat"),
])  # fmt: skip
def test_values_outside_their_range_are_refused_by_name(overrides, message):
    with pytest.raises(InputError) as refused:
        configured(*overrides)
    assert len(refused.value.problems) == 1
    assert message in refused.value.problems[0]


def test_every_choice_of_training_is_off_unless_asked_for():
    config = configured()
    assert config["loss"]["label_smoothing"] == 0
    assert config["weight_averaging"]["kind"] is None
    configured("weight_averaging=ema")
    configured("weight_averaging=swa")


@pytest.mark.parametrize("choice", options("../sweeps/choice"))
def test_every_choice_changes_the_preset_in_what_it_says(choice):
    def composed(*words):
        words = [f"hydra.searchpath=[file://{CONF}]", *words]
        with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
            return validate(compose("choices", overrides=words))

    config, reference = composed(f"+choice={choice}"), composed()
    assert rates(config, epochs=1)
    assert (config == reference) is (choice == "reference")


def test_the_sweep_of_choices_makes_every_choice():
    sweep = yaml.safe_load((ROOT / "sweeps" / "choices.yaml").read_text())
    made = sweep["hydra"]["sweeper"]["params"]["+choice"].split(",")
    assert made[0] == "reference"
    assert sorted(made) == options("../sweeps/choice")


def test_paper_is_the_reports_recipe():
    config = configured("experiment=paper")
    data = config["data"]
    assert config["optim"] == {
        "_target_": "torch.optim.SGD", "lr": 1e-4, "momentum": 0.9, "weight_decay": 0.0,
        "fused": True,
    }  # fmt: skip
    assert config["scheduler"]["gamma"] == 0.95
    assert config["trainer"]["max_epochs"] == 20
    assert (data["folds"], data["batch_size"]) == (5, 1)
    assert data["clinical"] == ["age", "lymphocyte_count"]
    assert not data["columns"]["lymphocyte_count"]["log"]
    off = ("standardize_clinical", "normalize_images", "crop", "train_bag_size")
    assert not any(data[key] for key in off)
    assert not any(data["augment"].to_dict().values())


@pytest.mark.parametrize("override", [
    "optm=sgd", "lr=abc", "data.max_instnces=3", "data.crop=large", "trainer.max_epochs=1.5",
    "optim=sdg", "data.folds=[1]", "model/pooling=median", "logger.mod=offline",
])  # fmt: skip
def test_wrong_keys_types_and_options_are_refused(override):
    with pytest.raises((HydraException, InputError)):
        configured(override)


def test_hydra_interpolation_stays_out_of_job_configuration():
    for path in CONF.rglob("*.yaml"):
        content = yaml.safe_load(path.read_text()) or {}
        content.pop("hydra", None)
        assert "${hydra:" not in str(content), path


@pytest.mark.parametrize(("word", "told"), [
    ("lr=1e-3", "lr=1e-3"),
    ("data.folds_csv='runs/lr=1/folds.csv'", "data.folds_csv='runs/lr=1/folds.csv'"),
    ("model.encoder.hidden=[64,32]", "model.encoder.hidden=[64,32]"),
    ("data.root=/home/me/cohort", "data.root=cohort"),
    ("data.root='/home/me/a,b'", "data.root=a,b"),
    ('data.root="/home/me/x=1/cohort"', "data.root=cohort"),
    (r"data.root=/home/me/a\=b/c", "data.root=c"),
    ("data.root='~me/x'", "data.root=x"),
    ("data.root=../me/x", "data.root=x"),
    ("tags=[a,/home/me]", "tags=..."),
    ("/home/me/sweeps", "sweeps"),
])  # fmt: skip
def test_the_command_that_is_kept_names_no_folder_of_this_machine(word, told):
    assert command_line([word]) == f"python train.py {told}"


def test_slug_is_sorted_and_leaves_out_what_changes_nothing():
    words = ["optim=sgd", "lr=1e-3", "fold=2", "data.root=/x", "model/pooling=max"]
    assert slug(words) == "lr=0.001,model.pooling=max,optim=sgd"
    assert slug([]) == "default"
    assert (
        slug(["lr=1e-5", "seed=007", "data.augment.flip=True"])
        == "data.augment.flip=true,lr=1e-05,seed=007"
    )
    assert slug(["data=synthetic"]) == "data=synthetic"
    assert slug(["model.encoder.weights=/home/me/w.pt"]) == "model.encoder.weights=w.pt"
    assert slug(["data.folds_csv='runs/lr=1/folds.csv'"]) == "data.folds_csv=folds.csv"
    many = [f"data.key{number}={'x' * 20}" for number in range(30)]
    assert len(slug(many)) < 200
    assert slug(many) != slug([*many, "seed=1"])


def test_command_words_are_typed():
    assert parse(Synthesize, ["out=x", "images=[3,9]"]).images == [3, 9]
    assert parse(Predict, ["run=r", "data.root=d"]).data == {"root": "d"}
    message = "ResNet18: it's 50 % [better], {really}"
    assert parse(Submit, ["run=r", f"message={message}"]).message == message
    assert parse(Predict, ["run='runs/cv/lr=0.1,optim=sgd'"]).run == "runs/cv/lr=0.1,optim=sgd"
    for words, says in (
        (["out=x", "patients=many"], "patients=many"),
        (["out=x", "patient=3"], "patient"),
        (["patients=3"], "out=...: this option is required"),
        (["out"], "key=value"),
        (["out=x", "images=[3,9"], "images"),
    ):
        with pytest.raises(InputError, match=says):
            parse(Synthesize, words)


@pytest.mark.parametrize("sweep", ["ablation", "choices", "folds", "pixels", "presets"])
@pytest.mark.parametrize("launcher", [None, "basic", "joblib", "submitit_local", "submitit_slurm"])
def test_every_sweep_composes_with_every_launcher(sweep, launcher):
    words = [f"hydra.searchpath=[file://{CONF}]"]
    words += [f"hydra/launcher={launcher}"] if launcher else []
    with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
        config = compose(sweep, overrides=words, return_hydra_config=True)
    jobs = config.hydra.launcher.get("n_jobs")
    assert launcher is not None or 1 <= jobs <= 8


def test_every_choice_of_pixels_is_in_its_sweep_and_changes_one_thing():
    sweep = yaml.safe_load((ROOT / "sweeps" / "pixels.yaml").read_text())
    listed = sweep["hydra"]["sweeper"]["params"]["+pixels"].split(",")
    assert set(listed) == {path.stem for path in (ROOT / "sweeps" / "pixels").iterdir()}
    found = {}
    for choice in listed:
        with initialize_config_dir(str(ROOT / "sweeps"), version_base="1.3"):
            words = [f"hydra.searchpath=[file://{CONF}]", f"+pixels={choice}"]
            found[choice] = dict(leaves(validate(compose("pixels", overrides=words))))
    for choice, values in found.items():
        changed = [key for key in values if values[key] != found["reference"][key]]
        assert len(changed) == {"reference": 0, "full_size": 2}.get(choice, 1), changed


def test_every_preset_of_the_real_cohort_but_controls_is_in_the_table():
    sweep = yaml.safe_load((ROOT / "sweeps" / "presets.yaml").read_text())
    listed = sweep["hydra"]["sweeper"]["params"]["experiment"].split(",")
    apart = {"demo", "permuted_bags", "mil_table"}
    assert {*listed, *apart} == set(options("experiment"))
