"""A stage around any trainer: a plain network, two networks against each other, a diffusion with a loss of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.engines import AdversarialTrainer, SupervisedEvaluator, SupervisedTrainer, Trainer
from monai.handlers import MeanAbsoluteError, from_engine
from monai.networks.nets import UNet
from tiny_training import tiny_items, tiny_loader
from torch.utils.data import DataLoader

from pipeline.errors import PETError
from pipeline.networks import PatchCritic, Residual, UniPET, untrained_body
from pipeline.training import DenoisingTrainer, Stage, start_from
from pipeline.training.checkpoint_files import checkpoint_files
from pipeline.training.progress import progress_rows
from pipeline.training.stage import trained_objects
from pipeline.transforms import scale_of

CPU = torch.device("cpu")


def unet() -> Residual:
    return Residual(UNet(3, 1, 1, channels=(2, 4), strides=(2,)), multiple=2)


def adam(module: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=1e-3)


def supervised(max_epochs: int) -> tuple[Trainer, torch.nn.Module, torch.optim.Optimizer]:
    network = unet()
    trainer = SupervisedTrainer(CPU, max_epochs, tiny_loader(), network, adam(network), torch.nn.L1Loss())
    return trainer, network, trainer.optimizer


def ours(max_epochs: int) -> tuple[Trainer, torch.nn.Module, torch.optim.Optimizer]:
    network = unet()
    optimizer = adam(network)
    trainer = DenoisingTrainer(
        CPU, max_epochs, tiny_loader(), network=network, optimizer=optimizer, loss=torch.nn.L1Loss()
    )
    return trainer, network, optimizer


def adversarial(max_epochs: int) -> tuple[Trainer, torch.nn.Module, torch.optim.Optimizer]:
    network, critic = unet(), PatchCritic((2, 2))
    trainer = AdversarialTrainer(
        CPU,
        max_epochs,
        tiny_loader(),
        g_network=network,
        g_optimizer=adam(network),
        g_loss_function=lambda scores: -scores.mean(),
        recon_loss_function=torch.nn.L1Loss(),
        d_network=critic,
        d_optimizer=adam(critic),
        d_loss_function=lambda real, fake: fake.mean() - real.mean(),
        decollate=False,
    )
    return trainer, network, trainer.state.g_optimizer


class DiffusionTrainer(Trainer):
    """Learns the noise that was mixed into the full dose; its loss has three arguments of its own."""

    def __init__(self, max_epochs: int, network: torch.nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__(CPU, max_epochs, tiny_loader(), decollate=False)
        self.network, self.optimizer, self.loss = network, adam(network), loss

    def _iteration(self, engine: Trainer, batchdata: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        label = batchdata["label"]
        noise, level = torch.randn_like(label), torch.rand(len(label), 1, 1, 1, 1)
        found = self.network((1 - level) * label + level * noise)
        self.optimizer.zero_grad()
        loss = self.loss(found, noise, level)
        loss.backward()
        self.optimizer.step()
        self.state.output = {"loss": loss.detach(), "pred": found.detach()}
        return self.state.output


def diffusion(max_epochs: int) -> tuple[Trainer, torch.nn.Module, torch.optim.Optimizer]:
    network = unet()
    trainer = DiffusionTrainer(max_epochs, network, lambda found, noise, level: (level * (found - noise) ** 2).mean())
    return trainer, network, trainer.optimizer


def evaluator(**options) -> SupervisedEvaluator:
    metric = {"mae": MeanAbsoluteError(output_transform=from_engine(["pred", "label"]))}
    data = DataLoader(tiny_items(2), batch_size=1)
    return SupervisedEvaluator(CPU, data, network=None, decollate=False, **{"key_val_metric": metric, **options})


def stage(make: Callable, folder: Path, max_epochs: int, *, seed: int = 0, **options) -> Stage:
    torch.manual_seed(seed)
    trainer, network, optimizer = make(max_epochs)
    torch.manual_seed(5)
    return Stage(
        "train",
        trainer,
        network=network,
        optimizer=optimizer,
        **{"evaluator": evaluator(), "output_dir": folder, "val_interval": 1, "suv_scale": 2.0, **options},
    )


OBJECTS = {
    supervised: {"network", "optimizer"},
    ours: {"network", "optimizer"},
    adversarial: {"g_network", "g_optimizer", "d_network", "d_optimizer"},
    diffusion: {"network", "optimizer"},
}


@pytest.mark.parametrize("make", OBJECTS, ids=lambda make: make.__name__)
def test_any_trainer_trains_is_validated_and_goes_on_where_it_was_stopped(make, tmp_path):
    class Stopped(Exception):
        pass

    def stop(engine):
        if engine.state.iteration == 6:
            raise Stopped

    whole = stage(make, tmp_path / "whole", 3, is_last=True, warmup=2)
    before = {name: value.clone() for name, value in whole.average.state_dict().items()}
    whole.run()
    first = stage(make, tmp_path / "parts", 3, is_last=True, warmup=2)
    first.trainer.add_event_handler("ITERATION_COMPLETED", stop)
    with pytest.raises(Stopped):
        first.run()
    # What is resumed owes nothing to the weights that it was built with.
    second = stage(make, tmp_path / "parts", 3, is_last=True, warmup=2, seed=9)
    second.run()
    assert (whole.progress, second.progress, second.log.n_iterations) == ((12, 12), (12, 12), 8)
    models = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts")]
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())
    assert any(not torch.equal(value, before[name]) for name, value in models[0].items())
    assert [scale_of(model) for model in models] == [2.0, 2.0]
    saved = torch.load(checkpoint_files(tmp_path / "whole" / "train")[0].path, weights_only=True)["objects"]
    assert saved.keys() == {*OBJECTS[make], "average", "log"}
    assert trained_objects(whole.trainer).keys() == OBJECTS[make]
    names = {row.name for row in progress_rows(tmp_path / "whole" / "progress.tsv")}
    assert "mae" in names
    assert len(names) > 1
    assert (tmp_path / "whole" / "progress.png").is_file()


def test_a_validation_without_a_key_metric_is_refused(tmp_path):
    with pytest.raises(PETError, match="stage train: the validation has no key metric"):
        stage(ours, tmp_path, 1, evaluator=evaluator(key_val_metric=None))


def test_the_second_stage_takes_over_the_average_of_the_first(tmp_path):
    """It is tried when the stage is built, and done when it begins."""
    first = stage(ours, tmp_path, 1)
    other = unet()
    handed = []

    def hand_over():
        start_from(other, first)
        handed.append(torch.cat([p.detach().flatten() for p in other.parameters()]).clone())

    second = stage(ours, tmp_path / "second", 1, prepare=hand_over)
    first.run()
    second.run()
    average = torch.cat([p.flatten() for p in first.average.network.parameters()])
    assert not torch.equal(handed[0], average)
    assert torch.equal(handed[1], average)


def test_unipet_starts_from_the_body(tmp_path):
    torch.manual_seed(1)
    network = UniPET(4, 2, style_width=4, latent_size=4, n_stages=1)
    body = untrained_body(network, initial_scale=0.2)
    assert all(torch.equal(block.res_scale, torch.full((4,), 0.2)) for block in body.blocks)
    with torch.no_grad():
        for parameter in body.parameters():
            parameter += 0.05 * torch.randn_like(parameter)

    def make(max_epochs):
        optimizer = adam(body)
        loss = torch.nn.L1Loss()
        return (
            DenoisingTrainer(CPU, max_epochs, tiny_loader(), network=body, optimizer=optimizer, loss=loss),
            body,
            None,
        )

    start_from(network, stage(make, tmp_path, 1))
    x = torch.rand(1, 1, 8, 8, 8)
    torch.testing.assert_close(network(x), body(x), rtol=1e-5, atol=1e-5)
