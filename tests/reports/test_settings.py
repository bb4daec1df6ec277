from lymphoml.reports.page.settings import differing, flatten, label
from tests.reports.fabricate import config


def test_flatten_names_a_group_by_its_class():
    flat = flatten(config())
    assert flat["optim"] == "SGD"
    assert flat["optim.momentum"] == 0.9
    assert flat["model.pooling"] == "MeanPooling"
    assert flat["data.crop"] == 112


def test_flatten_leaves_out_what_does_not_say_what_was_trained():
    assert not {"name", "fold", "tags", "data.root", "logger.mode"} & set(flatten(config()))


def grid():
    for optim in ("SGD", "Adam"):
        for lr in (1e-3, 1e-4):
            for decays in (True, False):
                changed = config(
                    **{"optim._target_": f"torch.optim.{optim}", "lr": lr, "optim.lr": lr}
                )
                if optim == "Adam":
                    del changed["optim"]["momentum"]
                if not decays:
                    changed["scheduler"] = {"_target_": None}
                changed["logger"]["group"] = f"{optim}{lr}{decays}"
                yield changed


def test_the_papers_grid_differs_in_three_settings():
    settings = differing(list(grid()))
    assert [list(setting) for setting in settings] == [["optim", "lr", "scheduler"]] * 8
    labels = [label(setting) for setting in settings]
    assert len(set(labels)) == 8
    assert labels[0] == "SGD, lr 0.001, ExponentialLR"
    assert labels[-1] == "Adam, lr 0.0001, no scheduler"


def test_an_argument_counts_among_runs_of_the_same_class():
    settings = differing([config(**{"optim.momentum": momentum}) for momentum in (0.9, 0.5)])
    assert settings == [{"optim.momentum": 0.9}, {"optim.momentum": 0.5}]
    assert label(settings[1]) == "momentum 0.5"


def test_arguments_of_different_nested_classes_follow_from_the_class():
    other = config(**{"model.fusion": {"_target_": "lymphoml.models.fusion.NoFusion"}})
    assert [label(setting) for setting in differing([config(), other])] == [
        "ConcatFusion",
        "NoFusion",
    ]


def test_a_missing_scheduler_is_the_same_as_one_without_class():
    settings = differing([config(), config(scheduler=None), config(scheduler={"_target_": None})])
    assert [setting["scheduler"] for setting in settings] == ["ExponentialLR", None, None]


def test_switches_and_words():
    settings = differing(
        [
            config(**{"data.augment.flip": True, "data.x": "a"}),
            config(**{"data.augment.flip": False, "data.x": "b"}),
        ]
    )
    assert [label(setting) for setting in settings] == ["flip, a", "no flip, b"]


def test_a_name_says_whose_where_another_has_it_as_well():
    assert label({"seed": 1, "model.encoder.seed": 8}) == "seed 1, encoder seed 8"
    assert label({"pretrain.seed": 3}) == "pretrain seed 3"
    assert label({"data.crop": 112, "pretrain.crop": 64}) == "data crop 112, pretrain crop 64"
    assert label({"data.crop": 112}, {"pretrain.crop"}) == "data crop 112"
    learns = {"model.encoder.trainable": True, "pretrain.encoder.trainable": False}
    assert label(learns) == "model encoder learns, no pretrain encoder learns"


def test_one_configuration_differs_from_none():
    assert differing([config()]) == [{}]


def test_a_group_with_a_kind_is_named_by_it():
    averages = [
        {"kind": None, "decay": None, "start": None},
        {"kind": "ema", "decay": 0.99, "start": None},
        {"kind": "swa", "decay": None, "start": 0.75},
    ]
    settings = differing([config(weight_averaging=average) for average in averages])
    assert [label(each) for each in settings] == ["no weight averaging", "ema", "swa"]
    averages.append(averages[1] | {"decay": 0.9})
    settings = differing([config(weight_averaging=average) for average in averages])
    told = ["no weight averaging", "ema, decay 0.99", "swa", "ema, decay 0.9"]
    assert [label(each) for each in settings] == told


def test_a_class_is_not_said_to_lack_anothers_argument():
    adam = config(**{"optim._target_": "torch.optim.Adam"})
    del adam["optim"]["momentum"]
    settings = differing([config(), config(**{"optim.momentum": 0.5}), adam])
    assert [label(each) for each in settings] == ["SGD, momentum 0.9", "SGD, momentum 0.5", "Adam"]
