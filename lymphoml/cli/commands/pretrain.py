"""`python -m lymphoml pretrain`: an encoder trained on images without labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import check_out, option
from lymphoml.core.errors import InputError


@dataclass
class Pretrain:
    """Train an encoder on a cohort's cells without their labels; to the cache, and to a file."""

    cohort: str = option("lymphocytosis", "which of conf/data, as data=... of train.py")
    data: dict[str, Any] = option({}, "changes to its settings: data.root=DIR")
    method: str = option("simclr", "simclr or vicreg, as pretrain=... of train.py")
    encoder: str = option("resnet10_quarter", "one of conf/model/encoder that looks at pixels")
    pretrain: dict[str, Any] = option({}, "changes to conf/pretrain: pretrain.epochs=20")
    trainer: dict[str, Any] = option({}, "changes to conf/trainer: trainer.num_threads=1")
    out: str | None = option(None, "a .safetensors that model.encoder.weights=FILE takes")


def run(options: Pretrain) -> None:
    from lymphoml.cli.config import data_config, pretrain_config

    data = data_config(options.cohort, options.data)
    section, trainer = pretrain_config(
        options.method, options.encoder, options.pretrain, options.trainer
    )
    out = Path(options.out).expanduser() if options.out else None

    from lymphoml.core.files import atomic_write
    from lymphoml.data.cohort import load_cohort
    from lymphoml.features.pretraining.encoder_file import ENCODER, format_value
    from lymphoml.features.pretraining.settings import INPUTS, trainable
    from lymphoml.features.pretraining.train import pretrain_encoder
    from lymphoml.training import hardware

    if given := [key for key in INPUTS if key in options.data]:
        raise InputError(
            f"{', '.join(f'data.{key}' for key in given)}: what the encoder sees is "
            f"{', '.join(f'pretrain.{key}' for key in given)} here; give it in their place"
        )
    settings = section.replace({"encoder": trainable(section.encoder)})
    if out is not None:
        if out.suffix != ".safetensors":
            raise InputError(f"out={out}: give a file that ends in .safetensors")
        check_out(out, Path(data.root), ENCODER)
    resolved = hardware.resolve_hardware(trainer)
    hardware.configure_torch(resolved)
    print(resolved)
    images = load_cohort(data).labelled.images
    path = pretrain_encoder(settings, images, data.cache, trainer) / ENCODER
    if out is not None:
        with atomic_write(out) as file:
            file.write(path.read_bytes())
    print(out or path)
    words = [f"data.{key}={format_value(getattr(settings, key))}" for key in INPUTS]
    print(f"train.py takes it with model.encoder.weights=FILE {' '.join(words)}")
