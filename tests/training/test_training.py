"""Trainers and checkpoints: exact resumption, atomic files, and what each loss switches."""

import copy
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandFlipd

from pipeline.losses import ReconstructionLoss
from pipeline.networks import PatchCritic, UniPET
from pipeline.training import Checkpoint, EpochLog, EpochSeed, UniPETTrainer, save_atomically


def parts(seed: int = 0) -> dict:
    torch.manual_seed(seed)
    network = UniPET(8, 2, resolution_factor=2, style_width=8, latent_size=8, n_stages=2)
    critic = PatchCritic((4, 4))
    return {
        "network": network,
        "critic": critic,
        "optimizer": torch.optim.AdamW(network.parameters(), lr=1e-3),
        "critic_optimizer": torch.optim.AdamW(critic.parameters(), lr=1e-3),
    }


def trainer(parts: dict, max_epochs: int, *, checkpoint: Path | None = None, **options) -> UniPETTrainer:
    g = torch.Generator().manual_seed(5)
    full = [torch.rand(1, 1, 1, 1, generator=g).expand(1, 16, 16, 16) + 0.0 for _ in range(4)]
    items = [{"label": x, "image": x + 0.2 * torch.randn(x.shape, generator=g)} for x in full]
    transform = Compose([RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)])
    loader = DataLoader(Dataset(items, transform), batch_size=2, shuffle=True)
    handlers = [EpochSeed(transform, seed=7)]
    if checkpoint is not None:
        handlers.append(Checkpoint(checkpoint, parts))
    return UniPETTrainer(
        torch.device("cpu"),
        max_epochs,
        loader,
        **parts,
        reconstruction_loss=ReconstructionLoss(),
        suv_scale=2.0,
        train_handlers=handlers,
        **{"autocast_dtype": None, **options},
    )


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    straight = parts()
    trainer(straight, 3).run()
    trainer(parts(), 1, checkpoint=tmp_path / "c.pt").run()
    resumed = parts(seed=99)
    trainer(resumed, 3, checkpoint=tmp_path / "c.pt").run()
    for name in ("network", "critic"):
        for a, b in zip(straight[name].parameters(), resumed[name].parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_finished_run_ends_at_once(tmp_path):
    done = parts()
    trainer(done, 1, checkpoint=tmp_path / "c.pt").run()
    before = copy.deepcopy(done["network"].state_dict())
    again = parts()
    engine = trainer(again, 1, checkpoint=tmp_path / "c.pt")
    n_iterations = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: n_iterations.append(1))
    engine.run()
    assert not n_iterations
    for name, value in again["network"].state_dict().items():
        assert torch.equal(value, before[name])


def test_training_lowers_the_reconstruction_loss():
    engine = trainer(parts(), 40, adversarial_weight=0.0, style_weight=0.0)
    values = []
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: values.append(e.state.output["losses"]["reconstruction"])
    )
    engine.run()
    assert values[-1] < 0.8 * values[0]


def test_critic_warmup_keeps_the_adversarial_loss_from_the_generator():
    engine = trainer(parts(), 2, critic_warmup=3)  # four iterations in all
    seen = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.append("adversarial" in e.state.output["losses"])
    )
    engine.run()
    assert seen == [False, False, False, True]


def test_without_adversarial_weight_the_critic_is_not_touched():
    made = parts()
    before = copy.deepcopy(made["critic"].state_dict())
    trainer(made, 1, adversarial_weight=0.0).run()
    assert all(torch.equal(value, before[name]) for name, value in made["critic"].state_dict().items())


def test_the_style_loss_reaches_the_style_maps():
    made = parts()
    engine = trainer(made, 4, adversarial_weight=0.0, style_weight=1.0)
    engine.run()
    assert engine.state.output["losses"]["style"] > 0
    assert any(m.weight.abs().max() > 0 for m in made["network"].style_maps)


def test_saving_leaves_the_old_checkpoint_when_it_fails(tmp_path):
    save_atomically({"a": torch.ones(2)}, tmp_path / "c.pt")
    with pytest.raises(Exception, match="pickle"):
        save_atomically({"a": lambda: None}, tmp_path / "c.pt")
    assert torch.equal(torch.load(tmp_path / "c.pt", weights_only=True)["a"], torch.ones(2))
    assert [path.name for path in tmp_path.iterdir()] == ["c.pt"]


def test_epoch_log_writes_a_row_per_value(tmp_path):
    engine = trainer(parts(), 2)
    EpochLog(tmp_path / "log.tsv", stage="UniPET").attach(engine)
    engine.run()
    rows = [line.split("\t") for line in (tmp_path / "log.tsv").read_text().splitlines()]
    assert {row[0] for row in rows} == {"UniPET"}
    assert {row[1] for row in rows} == {"1", "2"}
    assert {"loss", "reconstruction", "critic", "style"} <= {row[3] for row in rows}
    assert all(float(row[4]) == float(row[4]) for row in rows)
