"""Commands on a cohort: audit, download, features, pretrain, synthesize."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lymphoml.cli.options import REQUIRED, check_out, option, two_values
from lymphoml.core.errors import InputError

BLOCKS = ("morphology", "random_resnet18", "random_resnet18_layer3")  # with settings of their own
OF_NETWORKS = ("crop", "resize", "normalize_images", "stain_norm")  # what an encoder is to see
MAX_SEED = 2**32


@dataclass
class OfCohort:
    cohort: str = option("lymphocytosis", "which of conf/data, as data=... of train.py")
    data: dict[str, Any] = option({}, "changes to its settings, such as data.root=DIR")

    def data_config(self, *unused: str) -> Any:
        """Return the section `data`. Raises InputError for keys given that have no effect."""
        from lymphoml.cli.config import data_config
        from lymphoml.data.settings import OF_TRAINING

        if given := [f"data.{key}" for key in (*OF_TRAINING, *unused) if key in self.data]:
            raise InputError(f"{', '.join(given)}: has no effect on this command; leave it out")
        return data_config(self.cohort, self.data)


@dataclass
class Audit(OfCohort):
    """Check tables, images, persons and shortcuts; exit 0 clean, 1 warnings, 2 errors."""

    out: str | None = option(None, "private file; runs/audit/NAME/audit.json by default")

    def execute(self) -> None:
        data = self.data_config("normalize_images", "stain_norm")
        out = Path(self.out or f"runs/audit/{data.name}/audit.json").expanduser()
        check_out(out, Path(data.root), "audit.json")

        from lymphoml.audit.findings import print_audit
        from lymphoml.audit.run import audit
        from lymphoml.core.files import write_json
        from lymphoml.data.mil_table import require_images

        require_images(data, "audit")
        content = audit(data)
        write_json(out, content, private=True)
        print_audit(content)
        print(out)
        raise SystemExit(content["exit_code"])


@dataclass
class Download:
    """Fetch the Kaggle competition's cohort, and check layout and counts; overwrites nothing."""

    out: str = option("data/lymphocytosis", "new folder; one that has files is only checked")
    competition: str = option("dlmi-lymphocytosis-classification", "its name in Kaggle's address")

    def execute(self) -> None:
        from lymphoml.cli.config import data_config
        from lymphoml.data.download import count, download_cohort

        cohort = download_cohort(data_config("lymphocytosis", {"root": self.out}), self.competition)
        labelled, unlabelled, images = count(cohort)
        print(f"{self.out}: {labelled} labelled and {unlabelled} unlabelled patients, ", end="")
        print(f"{images:,} images")


@dataclass
class Features(OfCohort):
    """Measure every cell, or encode every image, once; to the cache, and to a file."""

    encoder: str = option("morphology", f"{', '.join(BLOCKS)}, one of conf/model/encoder")
    weights: str | None = option(None, "of that encoder (docs/encoders.md); none: random")
    name: str | None = option(None, "of the network, with encoder=timm")
    seed: int = option(0, "of random weights")
    out: str | None = option(None, "a .csv or .npz for data/features=file data.features.path=FILE")

    def execute(self) -> None:
        data = self.data_config("folds")
        out = Path(self.out).expanduser() if self.out else None
        if self.seed and (self.encoder == "morphology" or self.weights):
            what = f"weights={self.weights}" if self.weights else "encoder=morphology"
            raise InputError(f"seed={self.seed}: has no effect with {what}")

        from lymphoml.data.cache import hash_images
        from lymphoml.data.cohort import load_cohort
        from lymphoml.data.feature_files import check_suffix, write_feature_file
        from lymphoml.data.mil_table import require_images
        from lymphoml.features.blocks import make_blocks
        from lymphoml.features.feature_cache import load_features

        require_images(data, "features")
        if out is not None:
            check_suffix(out)
            check_out(out, Path(data.root), "features.npz")
        data, block = self._encoder_block(data)
        cohort = load_cohort(data)
        cohort.print_unused()
        images = cohort.images
        if block is None:
            ((block,),) = make_blocks([self.encoder], images, seed=self.seed)
        (store,) = load_features([block], hash_images(images), data.cache)
        count = sum(store.lengths)
        print(f"{count:,} images of {len(images)} patients, {len(store.names)} features each")
        if self.encoder == "morphology":
            found = sum(float(store.bag(patient)[:, 0].sum()) for patient in images)
            print(f"a nucleus was found in {100 * found / count:.1f} % of them")
        if out is not None:
            write_feature_file(out, store, images, block.encoder)
            print(out)

    def _encoder_block(self, data: Any) -> tuple[Any, Any]:
        """Return `data` as the encoder's weights decide, and its block; None for one of BLOCKS."""
        from lymphoml.cli.config import encoder_config
        from lymphoml.data.decoding import Preprocessing
        from lymphoml.features.blocks import EncoderBlock
        from lymphoml.features.encoder_weights import check_inputs, resolve_weights

        if not 0 <= self.seed <= MAX_SEED:
            raise InputError(f"seed={self.seed}: must be >= 0 and <= {MAX_SEED}")
        given = {"weights": self.weights, "name": self.name}
        changes = {key: value for key, value in given.items() if value is not None}
        if self.encoder in BLOCKS:
            # What the cohort's own file sets is for networks.
            if unused := [*changes, *(f"data.{key}" for key in OF_NETWORKS if key in self.data)]:
                raise InputError(f"{', '.join(unused)}: has no effect with encoder={self.encoder}")
            return data, None
        spec = encoder_config(self.encoder, changes) | {"norm": None}  # as the file has it
        spec, values = resolve_weights(spec, data.to_dict())
        data = data.read(values)
        check_inputs(Path(spec.get("weights") or ""), data)
        return data, EncoderBlock(spec, Preprocessing.of(data), data.normalize_images, self.seed)


@dataclass
class Pretrain(OfCohort):
    """Train an encoder on a cohort's cells without their labels; to the cache, and to a file."""

    method: str = option("simclr", "simclr or vicreg, as pretrain=... of train.py")
    encoder: str = option("resnet10_quarter", "one of conf/model/encoder that looks at pixels")
    pretrain: dict[str, Any] = option({}, "changes to conf/pretrain: pretrain.epochs=20")
    trainer: dict[str, Any] = option({}, "changes to conf/trainer: trainer.num_threads=1")
    out: str | None = option(None, "a .safetensors that model.encoder.weights=FILE takes")

    def execute(self) -> None:
        from lymphoml.cli.config import pretrain_config

        data = self.data_config("folds")
        section, trainer = pretrain_config(self.method, self.encoder, self.pretrain, self.trainer)
        out = Path(self.out).expanduser() if self.out else None

        from lymphoml.core.files import atomic_write
        from lymphoml.core.section import to_override
        from lymphoml.data.cohort import load_cohort
        from lymphoml.data.mil_table import require_images
        from lymphoml.features.pretraining.encoder_file import ENCODER
        from lymphoml.features.pretraining.settings import INPUTS, trainable
        from lymphoml.features.pretraining.train import pretrain_encoder
        from lymphoml.training import hardware

        if unused := sorted(self.trainer.keys() - {"accelerator", "precision", "num_threads"}):
            raise InputError(f"trainer.{unused[0]}: has no effect on this command; leave it out")
        if given := [key for key in INPUTS if key in self.data]:
            raise InputError(
                f"{', '.join(f'data.{key}' for key in given)}: what the encoder sees is "
                f"{', '.join(f'pretrain.{key}' for key in given)} here; give it in their place"
            )
        settings = section.replace({"encoder": trainable(section.encoder)})
        if out is not None:
            if out.suffix != ".safetensors":
                raise InputError(f"out={out}: give a file that ends in .safetensors")
            check_out(out, Path(data.root), ENCODER)
        require_images(data, "pretrain")
        resolved = hardware.resolve_hardware(trainer)
        hardware.configure_torch(resolved)
        print(resolved)
        cohort = load_cohort(data).labelled
        cohort.print_unused()
        path = pretrain_encoder(settings, cohort.images, data.cache, trainer) / ENCODER
        if out is not None:
            with atomic_write(out) as file:
                file.write(path.read_bytes())
        print(out or path)
        norm = settings.encoder.get("norm", "batch")
        words = [f"model/encoder={self.encoder}", f"model.encoder.norm={norm}"]
        words += [f"data.{key}={to_override(getattr(settings, key))}" for key in INPUTS]
        print(f"train.py takes it with {' '.join(words)} model.encoder.weights=FILE")


@dataclass
class Synthesize:
    """Draw a synthetic cohort in the Kaggle layout, with the best possible scores beside it."""

    out: str = option(REQUIRED, "new folder")
    patients: int = option(60, "labelled patients")
    test_patients: int = option(15, "unlabelled patients")
    images: list[int] = option([16, 198], "images a patient, fewest and most")
    size: int = option(224, "pixels a side")
    seed: int = option(0, "another number, another cohort")
    clinical_effect: float = option(1.0, "of age and count on the label, 0 to 1")

    def execute(self) -> None:
        from lymphoml.data.synthetic.cohort import synthesize

        truth = synthesize(
            Path(self.out), self.patients, self.test_patients, two_values("images", self.images),
            self.size, self.seed, self.clinical_effect,
        )  # fmt: skip
        print(f"{self.out}: {self.patients} labelled and {self.test_patients} test patients")
        for source, best in truth["best_balanced_accuracy"].items():
            print(f"  best possible balanced accuracy from {source}: {best['value']:.3f}")
