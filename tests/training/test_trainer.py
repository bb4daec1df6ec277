"""Lightning knows one process on one device, whatever a cluster left in the environment."""

import os

from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from lymphoml.training.trainer import make_trainer
from tests.training.test_hardware import AUTO

SLURM = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "1",
         "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "LOCAL_RANK": "1"}  # fmt: skip


def test_slurms_variables_and_a_rank_change_nothing(tmp_path, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning's import sets it under RANK=1
    trainer = make_trainer(AUTO, tmp_path, logger=False)
    assert (trainer.is_global_zero, trainer.world_size, rank_zero_only.rank) == (True, 1, 0)
    environment = trainer._accelerator_connector.cluster_environment
    assert type(environment) is LightningEnvironment


def test_srun_on_the_path_warns_of_nothing(tmp_path, monkeypatch):
    (tmp_path / "srun").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    make_trainer(AUTO, tmp_path, logger=False)  # a warning would be an error
