"""What version 0.2.0 wrote is read, or refused by name.

The files were written by version 0.2.0: two epochs of two iterations of a UniPET of two channels, and its weights.
"""

import gzip
import hashlib
import logging
from pathlib import Path

import pytest
import torch
from test_scan_statistics import FakeStore
from test_scan_statistics import network as network_with_statistics

from pipeline.errors import PETError
from pipeline.inference import load_weights
from pipeline.losses import ReconstructionLoss
from pipeline.networks import PatchCritic, UniPET
from pipeline.training import Checkpoint, DenoisingTrainer, EpochLog, ResumableLoader, WeightAverage, measure_statistics
from pipeline.training.checkpoint_files import write_checkpoint
from pipeline.training.stage import trained_objects
from pipeline.transforms import scale_of

FILES = Path(__file__).with_name("version_0_2_0")
CHECKPOINT = "iteration-000000004-c2132eaa3abe1fde.pt"


def unpacked(name: str, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(gzip.decompress((FILES / f"{name}.gz").read_bytes()))
    return path


def network() -> UniPET:
    return UniPET(2, 1, resolution_factor=2, style="statistics", style_width=2, latent_size=2, tissue_threshold=0.1)


def training(folder: Path, max_epochs: int) -> tuple[DenoisingTrainer, WeightAverage]:
    torch.manual_seed(8)
    net, critic = network(), PatchCritic((2, 2))
    items = [{key: torch.rand(1, 16, 16, 16) for key in ("image", "label")} for _ in range(4)]
    for item in items:
        item |= {"statistics": torch.zeros(5), "label_statistics": torch.zeros(5)}
    trainer = DenoisingTrainer(
        torch.device("cpu"),
        max_epochs,
        ResumableLoader(items, 2),
        network=net,
        optimizer=torch.optim.AdamW(net.parameters()),
        critic=critic,
        critic_optimizer=torch.optim.AdamW(critic.parameters()),
        loss=ReconstructionLoss(),
        style_weight=1e-3,
        adversarial_weight=1e-3,
        autocast_dtype=None,
    )
    average = WeightAverage(net, 0.9, suv_scale=2.0)
    log = EpochLog(folder / "progress.tsv", stage="s")
    objects = {**trained_objects(trainer), "average": average, "log": log}
    for handler in (average, log, Checkpoint(folder / "c", objects)):
        handler.attach(trainer)
    return trainer, average


def test_weights_are_read_and_denoise_alike(tmp_path):
    path = unpacked("model.pt", tmp_path)
    state = torch.load(path, weights_only=True)
    assert scale_of(state) is None
    loaded = load_weights(network(), path, suv_scale=2.0)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    x = torch.linspace(0, 3, 8**3).reshape(1, 1, 8, 8, 8)
    with torch.no_grad():
        # As version 0.2.0 computed it.
        assert loaded(x, torch.zeros(1, 5)).double().sum().item() == pytest.approx(769.55287, abs=1e-5)


def test_a_training_goes_on(tmp_path, caplog):
    unpacked(CHECKPOINT, tmp_path / "c")
    trainer, average = training(tmp_path, 2)
    trainer.run()
    assert trainer.state.iteration == 4
    weights = torch.load(unpacked("model.pt", tmp_path), weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in average.state_dict().items())
    with caplog.at_level(logging.INFO):
        trainer, average = training(tmp_path, 3)
        trainer.run()
    assert trainer.state.iteration == 6
    assert "after epoch 2" in caplog.text
    assert any(not torch.equal(value, weights[name]) for name, value in average.state_dict().items())


def test_a_checkpoint_of_another_scale_or_of_something_else_is_refused(tmp_path):
    trainer, _ = training(tmp_path, 1)
    trainer.run()
    trainer, average = training(tmp_path, 2)
    average.suv_scale = 4.0
    with pytest.raises(PETError, match=r"average is of another training, .*: weights of suv_scale 2, expected 4"):
        trainer.run()

    other = tmp_path / "other"
    write_checkpoint({"a": torch.ones(2)}, other / "c", iteration=3)
    with pytest.raises(PETError, match=r"000000003-\w+.pt: holds \['a'\], expected a checkpoint of a training"):
        training(other, 1)[0].run()


def test_a_cache_of_noise_statistics_is_replaced(tmp_path):
    """Version 0.2.0 keyed on settings and subjects alone; what it measured may be wrong now."""
    settings = repr((2.0, 0.05, [("one", "a"), ("two", "a")]))
    wrong = {name: {dose: torch.zeros(5) for dose in (1.0, 4.0, 100.0)} for name in ("one", "two")}
    key = hashlib.sha256(settings.encode()).hexdigest()
    torch.save({"key": key, "measured": wrong}, tmp_path / "s.pt")
    table = measure_statistics(FakeStore(), network_with_statistics(), cache=tmp_path / "s.pt")
    assert (table.all() != 0).all()
