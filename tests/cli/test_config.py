"""Every option of every group composes and builds; what is wrong is refused by name."""

from itertools import cycle, islice

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from lymphoml.cli.config import CONF, compose_config, validate
from lymphoml.core.errors import InputError
from lymphoml.models.build import build_model, takes_features
from lymphoml.runs.naming import leaves, slug
from lymphoml.runs.provenance import without_folders
from lymphoml.runs.settings import TrainConfig, reject_unused_options
from lymphoml.training.lightning_module import BagClassifier

SWEEPS = CONF.parent / "sweeps"
BAGS = ["data=mil_table", "data.table=mine.csv"]


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem != "base")


def columns(*groups: str) -> list[tuple[str, ...]]:
    """Every option of every group at least once, one of each group at a time."""
    longest = max(len(options(group)) for group in groups)
    return list(zip(*(islice(cycle(options(each)), longest) for each in groups), strict=True))


def sweep_config(name: str, *overrides: str) -> TrainConfig:
    with initialize_config_dir(str(SWEEPS), version_base="1.3"):
        return validate(compose(name, overrides=[f"hydra.searchpath=[file://{CONF}]", *overrides]))


def learning_rates(config: TrainConfig, epochs: int) -> list[float]:
    module = BagClassifier(config.model, config.optim, config.scheduler, 2)
    made = module.configure_optimizers()
    (optimizer,), schedulers = made if isinstance(made, tuple) else ([made], [])
    seen = []
    for _ in range(epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return seen


@pytest.fixture(scope="module")
def config() -> TrainConfig:
    return compose_config("model/fusion=clinical")


# Composing


ENCODERS = ("model/encoder", "model/fusion", "logger", "trainer", "weight_averaging", "pretrain")


@pytest.mark.parametrize("row", columns(*ENCODERS), ids="-".join)
def test_every_encoder_and_fusion_builds(row):
    overrides = [f"{group}={option}" for group, option in zip(ENCODERS, row, strict=True)]
    spec = compose_config(*overrides).model
    features = takes_features(spec)
    model = build_model(spec, clinical_dim=2, feature_dim=5 if features else None)
    images = torch.rand(3, 5) if features else torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        logits = model.eval()(images, torch.tensor([1, 2]), torch.rand(2, 2))
    assert logits.shape == (2,)


TRAINING = ("model/pooling", "optim", "scheduler")


@pytest.mark.parametrize("row", columns(*TRAINING), ids="-".join)
def test_every_pooling_optimiser_and_scheduler_builds(row):
    overrides = [f"{group}={option}" for group, option in zip(TRAINING, row, strict=True)]
    first = {"one_cycle": 1e-4 / 25, "cosine_with_warmup": 1e-4 / 4}
    rates = learning_rates(compose_config(*overrides), epochs=1)
    assert rates == pytest.approx([first.get(row[2], 1e-4)])


@pytest.mark.parametrize("experiment", options("experiment"))
def test_every_experiment_builds(experiment):
    config = compose_config(f"experiment={experiment}", *BAGS * (experiment == "mil_table"))
    if "weights" in config.model["encoder"]:
        config.model["encoder"]["weights"] = None  # a download
    assert learning_rates(config, epochs=1)


@pytest.mark.parametrize("features", options("data/features"))
def test_every_kind_of_features_composes(features):
    more = ["data.features.path=mine.npz"] * (features == "file")
    config = compose_config(f"data/features={features}", *more)
    assert config.data.features.used == (features != "none")


def test_a_declared_column_can_be_left_out():
    assert set(compose_config("data.columns.sex=null").data.columns) == {"age", "lymphocyte_count"}
    with pytest.raises(InputError, match=r"data\.columns has no age"):
        compose_config("data.columns.age=null")


@pytest.mark.parametrize("pooling", options("model/pooling"))
def test_every_pooling_takes_vectors_of_a_width_that_is_not_known_yet(pooling):
    words = ["data/features=random_resnet18", "model/encoder=identity", f"model/pooling={pooling}"]
    build_model(compose_config(*words).model, clinical_dim=1)


@pytest.mark.parametrize("data", options("data"))
def test_every_kind_of_cohort_composes(data):
    of_kaggle = data in ("lymphocytosis", "synthetic")
    given = ["data.root=somewhere", *["data.table=mine.csv"] * (not of_kaggle)]
    assert compose_config(f"data={data}", *given, "experiment=mil_table").data.folds


def test_paper_is_the_papers_recipe():
    config = compose_config("experiment=paper")
    data = config.data
    assert config.optim == {"_target_": "torch.optim.SGD", "lr": 1e-4, "momentum": 0.9,
                            "weight_decay": 0.0, "fused": True}  # fmt: skip
    assert (config.scheduler["gamma"], config.trainer.max_epochs) == (0.95, 20)
    assert (data.folds, data.batch_size) == (5, 1)
    assert data.clinical == ["age", "lymphocyte_count"]
    off = (data.columns["lymphocyte_count"].log, data.standardize_clinical, data.normalize_images,
           data.crop, data.train_bag_size, *data.augment.to_dict().values(),
           config.loss.label_smoothing, config.weight_averaging.kind)  # fmt: skip
    assert not any(off)


def test_every_preset_of_the_real_cohort_but_controls_is_in_the_table():
    sweep = yaml.safe_load((SWEEPS / "presets.yaml").read_text())
    listed = sweep["hydra"]["sweeper"]["params"]["experiment"].split(",")
    others = {"demo", "permuted_bags", "mil_table", "paper_code"}  # the last has folds of its own
    assert {*listed, *others} == set(options("experiment"))


@pytest.mark.slow
@pytest.mark.parametrize(("sweep", "group"), [
    ("choices", "choice"), ("pixels", "pixels"), ("future_work", "future"),
])  # fmt: skip
def test_every_choice_is_in_its_sweep_and_changes_one_thing(sweep, group):
    file = yaml.safe_load((SWEEPS / f"{sweep}.yaml").read_text())
    listed = file["hydra"]["sweeper"]["params"][f"+{group}"].split(",")
    assert set(listed) == {path.stem for path in (SWEEPS / group).iterdir()}
    reference = dict(leaves(sweep_config(sweep).to_dict()))
    several = {"full_size", "ema", "swa", "constant_rate", "swa_constant_rate", "warmup",
               "epochs_more", "epochs_fewer", "rate_higher", "rate_lower", "batch_4_scaled",
               "batch_8_scaled", "flips_and_turns", "color_jitter"}  # fmt: skip
    for choice in listed:
        values = dict(leaves(sweep_config(sweep, f"+{group}={choice}").to_dict()))
        changed = [key for key in {**values, **reference}
                   if values.get(key) != reference.get(key)]  # fmt: skip
        assert len(changed) > 1 if choice in several else len(changed) == (choice != "reference")


@pytest.mark.slow
@pytest.mark.parametrize(("sweep", "launcher"), [
    *((path.stem, None) for path in sorted(SWEEPS.glob("[!w]*.yaml"))),  # the other is of W&B
    *(("ablation", each) for each in ("basic", "joblib", "slurm", "submitit_local", "ray")),
])  # fmt: skip
def test_every_sweep_and_every_launcher_composes(sweep, launcher):
    overrides = [f"hydra.searchpath=[file://{CONF}]"]
    overrides += [f"hydra/launcher={launcher}"] if launcher else []
    with initialize_config_dir(str(SWEEPS), version_base="1.3"):
        composed = compose(sweep, overrides=overrides, return_hydra_config=True)
    jobs = composed.hydra.launcher.get("n_jobs")
    assert launcher is not None or 1 <= jobs <= 8


@pytest.mark.parametrize(("launcher", "key", "default"), [
    ("slurm", "wait", True), ("ray", "num_cpus", 4), ("ray", "num_gpus", 1),
])  # fmt: skip
def test_a_cluster_launcher_is_typed(launcher, key, default):
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [f"hydra/launcher={launcher}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("train", overrides=words, return_hydra_config=True)
        with pytest.raises(HydraException):
            compose("train", overrides=[*words, f"hydra.launcher.{key}=x"])
    assert composed.hydra.launcher[key] == default
    assert composed.hydra.launcher._target_.startswith("hydra_plugins.lymphoml_launchers.")


# Learning rates


@pytest.mark.parametrize(("scheduler", "changes", "expected"), [
    ("exponential", {}, [1e-4, 0.95e-4, 0.9025e-4, 0.857375e-4]),
    ("none", {}, [1e-4] * 4),
    ("cosine", {}, [1e-4, 0.8535533905932737e-4, 0.5e-4, 0.14644660940672627e-4]),
    ("one_cycle", {"pct_start": 0.5}, [0.04e-4, 1e-4, 0.500002e-4, 4e-10]),  # a whole epoch up
    ("cosine_with_warmup", {}, [0.25e-4, 0.5e-4, 0.75e-4, 1e-4]),
    ("cosine_with_warmup", {"warmup_epochs": 2}, [1e-4 / 3, 2e-4 / 3, 1e-4, 0.5e-4]),
    ("cosine_with_warmup", {"warmup_epochs": 0},
     [1e-4, 0.8535533905932737e-4, 0.5e-4, 0.14644660940672627e-4]),
])  # fmt: skip
def test_learning_rates_epoch_by_epoch(scheduler, changes, expected):
    config = compose_config(
        f"scheduler={scheduler}", "model/fusion=clinical", "trainer.max_epochs=4"
    )
    config.scheduler.update(changes)
    assert learning_rates(config, 4) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("warmup", [6, -1])
def test_a_warmup_leaves_an_epoch_to_the_cosine(config, warmup):
    scheduler = yaml.safe_load((CONF / "scheduler" / "cosine_with_warmup.yaml").read_text())
    config = config.replace({"scheduler": scheduler | {"warmup_epochs": warmup, "epochs": 6}})
    with pytest.raises(InputError, match="warmup_epochs"):
        learning_rates(config, 1)


# Refusals


@pytest.mark.parametrize(("changes", "message"), [
    ({"data.crop": 0}, "data.crop=0: must be >= 1"),
    ({"data.augment.rotate": 7}, "data.augment.rotate=7: must be true or false or any"),
    ({"data.eval_tta": 2}, "data.eval_tta=2: must be one of 1, 8"),
    ({"data.image_baselines": ["x"]}, "data.image_baselines.0=x: must be one of morphology"),
    ({"data.crp": 3}, "data.crp: no such key"),
    ({"trainer.encoder_chunk_size": 0}, "trainer.encoder_chunk_size=0: must be >= 1 or auto"),
    ({"trainer.max_epochs": True}, "trainer.max_epochs=true: must be a whole number"),
    ({"trainer.precision": "16-true"}, "trainer.precision=16-true: must be one of auto, 32-true"),
    ({"trainer.patience": 3}, "trainer.patience needs data.inner_val_fraction above 0"),
    ({"trainer.check_val_every_n_epoch": 21}, "must be <= trainer.max_epochs=20"),
    ({"loss.pos_weight": 0}, "loss.pos_weight=0: must be > 0 or balanced"),
    ({"loss.label_smoothing": 1}, "loss.label_smoothing=1: must be < 1"),
    ({"loss.pos_weight": 2, "loss.after_sigmoid": True}, "no effect with loss.after_sigmoid=true"),
    ({"weight_averaging": {"kind": "ema", "decay": 1}}, "weight_averaging.decay=1: must be < 1"),
    ({"weight_averaging": {"kind": "swa"}}, "weight_averaging.start: must be >= 0 and < 1"),
    ({"weight_averaging": {"kind": "ema", "decay": 0.9, "start": 0.5}}, "weight_averaging=ema"),
    ({"fold": 5}, "fold=5: must be all or 0 to 4"),
    ({"lr": float("nan")}, "lr=nan: must be a finite number"),
    ({"lr": None}, "lr=null: must be a number"),
    ({"tags": "a"}, "tags=a: must be a list"),
    ({"name": "../x"}, "name=../x: must be letters, digits, _ - and ."),
], ids=str)  # fmt: skip
def test_a_value_outside_its_range_is_refused_by_name(config, changes, message):
    with pytest.raises(InputError) as refused:
        config.replace(changes)
    assert len(refused.value.problems) == 1
    assert message in refused.value.problems[0]


def test_all_problems_of_a_section_are_reported_together(config):
    with pytest.raises(InputError) as refused:
        config.replace({"data.crop": 0, "data.folds": "many", "lr": -1, "surprise": 1})
    assert len(refused.value.problems) == 4


def test_a_number_is_a_name_and_whole_numbers_are_numbers():
    config = compose_config("name=2024", "tags=[1,a]", "lr=1", "weight_averaging=swa")
    assert (config.name, config.tags, config.lr) == ("2024", ["1", "a"], 1.0)
    assert config.weight_averaging.start == 0.75


@pytest.mark.parametrize(("override", "message"), [
    ("loss.label_smoothing=0.1", "loss.label_smoothing=0.1"),
    ("weight_averaging=ema", "weight_averaging.kind=ema"),
    ("model.instance_dropout=0.2", "model.instance_dropout=0.2"),
    ("trainer.max_epochs=3", "trainer.max_epochs=3: .*; set trainer.max_epochs=1"),
    ("loss={after_sigmoid:true,pos_weight:null}", "loss.after_sigmoid=true: .*; leave it out"),
    ("data.shuffle=false", "data.shuffle=false: .*; set data.shuffle=true"),
])  # fmt: skip
def test_settings_of_gradient_steps_are_refused_where_all_is_fitted(override, message):
    with pytest.raises(InputError, match=f"^{message}"):
        reject_unused_options(compose_config("experiment=best", override))


# Names


@pytest.mark.parametrize(("word", "kept"), [
    ("lr=1e-3", "lr=1e-3"),
    ("data.folds_csv='runs/lr=1/folds.csv'", "data.folds_csv='runs/lr=1/folds.csv'"),
    ("data.root=/home/me/cohort", "data.root=cohort"),
    ('data.root="/home/me/x=1/cohort"', "data.root=cohort"),
    (r"data.root=/home/me/a\=b/c", "data.root=c"),
    ("data.root=../me/x", "data.root=x"),
    ("tags=[a,/home/me]", "tags=..."),
    ("/home/me/sweeps", "sweeps"),
])  # fmt: skip
def test_the_stored_command_names_no_folder_of_this_machine(word, kept):
    assert without_folders(word) == kept


def test_slug_is_sorted_and_leaves_out_what_changes_nothing():
    words = ["optim=sgd", "lr=1e-3", "fold=2", "data.root=/x", "model/pooling=max"]
    assert slug(words) == "lr=0.001,model.pooling=max,optim=sgd"
    assert slug([]) == "default"
    words = ["lr=1e-5", "seed=007", "data.augment.flip=True"]
    assert slug(words) == "data.augment.flip=true,lr=1e-05,seed=007"
    assert slug(["model.encoder.weights=/home/me/w.pt"]) == "model.encoder.weights=w.pt"
    assert slug(["data.folds_csv='runs/lr=1/folds.csv'"]) == "data.folds_csv=folds.csv"
    many = [f"data.key{number}={'x' * 20}" for number in range(30)]
    assert len(slug(many)) < 200
    assert slug(many) != slug([*many, "seed=1"])
