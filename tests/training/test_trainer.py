"""The trainer: its gradients, and what each of its switches does."""

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from tiny_training import tiny_items, tiny_loader, tiny_parts, tiny_trainer

from pipeline.losses import (
    ReconstructionLoss,
    critic_loss,
    generator_loss,
    gradient_penalty,
    style_alignment_loss,
    stylized_region,
)
from pipeline.networks import BaseDenoisingNetwork, PatchCritic, UniPET
from pipeline.pet import PETError
from pipeline.training import DenoisingTrainer

OPTIONS = {
    "style_weight": 0.3,
    "adversarial_weight": 0.2,
    "penalty_weight": 10.0,
    "region_threshold": 0.01,
    "gradient_clip": None,
}


def batch(*, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    items = tiny_items(4, dtype=dtype)
    return {key: torch.stack([item[key] for item in items]) for key in ("image", "label")}


def with_sgd(parts: dict[str, Any]) -> dict[str, Any]:
    """With plain gradient steps, the difference of two results is that of their gradients."""
    for net, optimizer in (("network", "optimizer"), ("critic", "critic_optimizer")):
        parts[optimizer] = torch.optim.SGD(parts[net].parameters(), lr=0.1)
    return parts


def one_step(parts: dict[str, Any], **options: Any) -> DenoisingTrainer:
    data = batch(dtype=next(parts["network"].parameters()).dtype)
    trainer = tiny_trainer(parts, 1, loader=[data], **{**OPTIONS, **options})
    trainer.run()
    return trainer


def gradients(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in module.parameters()]


def assert_same(a: list[torch.Tensor], b: list[torch.Tensor], *, rtol: float) -> None:
    scale = max(x.abs().max().item() for x in b)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=rtol * scale)


def test_gradients_of_the_shared_forward_are_those_of_separate_forwards():
    parts = with_sgd(tiny_parts(dtype=torch.float64))
    reference = copy.deepcopy(parts)
    trainer = one_step(parts)

    # The same iteration as its equations say it, every loss with a forward of its own.
    network, critic, data = reference["network"], reference["critic"], batch()
    image, label = data["image"], data["label"]
    region = stylized_region(label * 2.0, threshold=0.01)
    real, fake = region * label, region * network(image).detach()
    position = trainer._positions(4)
    wasserstein = critic_loss(critic(real), critic(fake))
    (wasserstein + 10 * gradient_penalty(critic, real, fake, position=position)).backward()
    critic_gradients = gradients(critic)
    with torch.no_grad():
        for p, g in zip(critic.parameters(), critic_gradients, strict=True):
            p -= 0.1 * g
    total = ReconstructionLoss(noise_floor=0.1)(network(image), label, image)
    full_dose_features = copy.deepcopy(network).denoise_with_features(label)[1]
    total = total + 0.3 * style_alignment_loss(network.denoise_with_features(image)[1], full_dose_features)
    total = total + 0.2 * generator_loss(critic(region * network(image)))
    total.backward()

    assert region.mean() > 0.05
    assert_same(gradients(parts["critic"]), critic_gradients, rtol=1e-10)
    assert_same(gradients(parts["network"]), gradients(network), rtol=1e-10)
    assert trainer.state.output["loss"] == pytest.approx(total.item(), rel=1e-12)


def test_gradients_of_accumulated_parts_are_those_of_the_whole_batch():
    whole, parted = (with_sgd(tiny_parts(dtype=torch.float64)) for _ in range(2))
    one = one_step(whole).state.output
    four = one_step(parted, accumulation=4).state.output
    for name in ("network", "critic"):
        assert_same(gradients(parted[name]), gradients(whole[name]), rtol=1e-10)
    assert four["losses"] == pytest.approx(one["losses"], rel=1e-10)
    torch.testing.assert_close(four["pred"], one["pred"])


def test_the_style_target_is_the_full_dose_pass():
    made = tiny_parts(dtype=torch.float64)
    network = copy.deepcopy(made["network"])
    data = batch()
    with torch.no_grad():
        expected = style_alignment_loss(*(network.denoise_with_features(data[key])[1] for key in ("image", "label")))
    losses = one_step(made).state.output["losses"]
    assert expected > 1e-3
    assert losses["style"] == pytest.approx(expected.item(), rel=1e-10)


def test_the_critic_sees_the_stylized_region_alone_unless_told_otherwise():
    seen: list[torch.Tensor] = []
    for threshold in (0.01, None):
        made = tiny_parts(dtype=torch.float64)
        made["critic"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
        one_step(made, region_threshold=threshold)
    masked, whole = seen[0], seen[len(seen) // 2]
    label = batch()["label"]
    region = stylized_region(2 * label, threshold=0.01)
    assert 0 < region.mean() < 1
    assert torch.equal(masked, region * label)
    assert torch.equal(whole, label)


def test_a_conditional_critic_sees_the_low_dose_beside_what_it_judges():
    made = tiny_parts()
    made["critic"] = PatchCritic((4, 8), in_channels=2)
    made["critic_optimizer"] = torch.optim.SGD(made["critic"].parameters(), lr=0.1)
    seen: list[torch.Tensor] = []
    made["critic"].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    data = batch(dtype=torch.float32)
    tiny_trainer(made, loader=[data], region_threshold=None, conditional_critic=True).run()
    for x in seen:  # mixtures of two patches have it up to rounding
        torch.testing.assert_close(x[:, 1:], data["image"], rtol=1e-6, atol=1e-6)
    assert torch.equal(seen[0][:, :1], data["label"])
    assert len(seen) == 4  # full dose, prediction, their mixture; and the prediction once more


def test_a_network_without_style_trains_with_the_critic_alone():
    made = tiny_parts()
    torch.manual_seed(0)
    made["network"] = BaseDenoisingNetwork(8, 2, resolution_factor=2)
    made["optimizer"] = torch.optim.AdamW(made["network"].parameters(), lr=1e-3)
    before = copy.deepcopy(made["network"].state_dict())
    losses = one_step(made, style_weight=0.0).state.output["losses"]
    assert set(losses) == {"critic", "reconstruction", "adversarial"}
    assert any(not torch.equal(value, before[name]) for name, value in made["network"].state_dict().items())


@pytest.mark.parametrize("without", ["weight", "critic"])
def test_without_adversary_the_critic_is_not_touched(without):
    made = tiny_parts()
    critic = made["critic"]
    before = copy.deepcopy(critic.state_dict())
    if without == "critic":
        made |= {"critic": None, "critic_optimizer": None}
    trainer = one_step(made, adversarial_weight=0.0 if without == "weight" else 1.0)
    assert set(trainer.state.output["losses"]) == {"reconstruction", "style"}
    assert all(torch.equal(value, before[name]) for name, value in critic.state_dict().items())


def test_style_alignment_of_a_network_without_features_is_refused():
    made = tiny_parts() | {"network": torch.nn.Conv3d(1, 1, 3, padding=1)}
    with pytest.raises(ValueError, match="a Conv3d has no features"):
        tiny_trainer(made, style_weight=0.1)


def test_a_batch_that_cannot_be_divided_and_no_epochs_are_refused_before_the_run():
    with pytest.raises(ValueError, match="batch of 2 patches, expected a multiple of accumulation 4"):
        tiny_trainer(tiny_parts(), accumulation=4)
    with pytest.raises(ValueError, match="max_epochs must be at least 1, got 0"):
        tiny_trainer(tiny_parts(), 0)


def test_a_critic_without_optimizer_is_refused():
    with pytest.raises(ValueError, match="critic_optimizer"):
        tiny_trainer(tiny_parts() | {"critic_optimizer": None})


def test_statistics_reach_the_network_and_the_full_dose_pass_has_its_own():
    made = tiny_parts()
    network = made["network"]
    network.__class__ = type("Reading", (UniPET,), {"reads": ("statistics", "noise_map")})
    plain = network.denoise_with_features
    seen = []

    def denoise_with_features(x: torch.Tensor, statistics: torch.Tensor, noise_map: torch.Tensor) -> Any:
        seen.append((x.clone(), statistics))
        assert noise_map.mean() == -statistics.mean()
        return plain(x)

    network.denoise_with_features = denoise_with_features
    noise_map = torch.full((4, 2, 8, 8, 8), -1.0)
    data = {**batch(dtype=torch.float32), "statistics": torch.full((4, 7), 1.0), "noise_map": noise_map}
    with pytest.raises(PETError, match="label_statistics, label_noise_map"):
        tiny_trainer(made, loader=[data]).run()
    data |= {"label_statistics": torch.full((4, 7), 2.0), "label_noise_map": 2 * noise_map}
    tiny_trainer(made, loader=[data]).run()
    assert [(torch.equal(x, data["image"]), s.mean().item()) for x, s in seen] == [(True, 1.0), (False, 2.0)]


def test_a_style_from_statistics_learns_from_those_of_the_batch():
    def trained(low: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        network = UniPET(8, 2, resolution_factor=2, style="statistics", style_width=8, latent_size=8)
        made = tiny_parts() | {"network": network, "optimizer": torch.optim.SGD(network.parameters(), lr=0.1)}
        data = batch(dtype=torch.float32)
        data |= {"statistics": torch.full((4, 7), low), "label_statistics": torch.full((4, 7), -1.0)}
        tiny_trainer(made, 3, loader=[data]).run()
        return network.state_dict()

    one, other = trained(0.5), trained(2.0)
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert any("style" in name for name in changed)


def test_critic_warmup_keeps_the_adversarial_loss_from_the_generator():
    engine = tiny_trainer(tiny_parts(), critic_warmup=3)  # four iterations in all
    seen = []
    engine.add_event_handler(
        Events.ITERATION_COMPLETED, lambda e: seen.append("adversarial" in e.state.output["losses"])
    )
    engine.run()
    assert seen == [False, False, False, True]


def test_the_gradient_is_clipped_to_its_largest_norm():
    made = tiny_parts()
    one_step(made)
    free = torch.cat([g.flatten() for g in gradients(made["network"])])
    made = tiny_parts()
    one_step(made, gradient_clip=free.norm().item() / 4)
    clipped = torch.cat([g.flatten() for g in gradients(made["network"])])
    torch.testing.assert_close(clipped, free / 4)


def test_autocast_leaves_the_critic_in_float32():
    made = tiny_parts()
    dtypes = {}
    for name, layer in (("critic", made["critic"].layers[0]), ("block", made["network"].base.blocks[0])):
        layer.register_forward_hook(lambda module, inputs, out, name=name: dtypes.update({name: out.dtype}))
    trainer = one_step(made, autocast_dtype=torch.bfloat16)
    assert dtypes == {"critic": torch.float32, "block": torch.bfloat16}
    # The image is added in float32: the prediction must not be rounded with it.
    assert trainer.state.output["pred"].dtype == torch.float32


def test_a_loss_that_is_not_finite_stops_before_the_weights_are_spoilt():
    made = tiny_parts()
    before = copy.deepcopy(made["network"].state_dict())
    data = batch(dtype=torch.float32)
    data["image"][0, 0, 0, 0, 0] = torch.nan
    with pytest.raises(PETError, match=r"iteration 1: \w+ loss is nan"):
        tiny_trainer(made, loader=[data]).run()
    assert all(torch.equal(value, before[name]) for name, value in made["network"].state_dict().items())


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_spoilt(clip):
    parts = tiny_parts()
    before = [p.clone() for p in parts["network"].parameters()]
    # As some kernels of reduced precision do, of a finite loss.
    next(parts["network"].parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(PETError, match="epoch 1, iteration 1: norm of the gradient is nan"):
        tiny_trainer(parts, gradient_clip=clip).run()
    assert all(torch.equal(a, b) for a, b in zip(before, parts["network"].parameters(), strict=True))


def test_training_lowers_the_reconstruction_loss():
    engine = tiny_trainer(tiny_parts(), 15, adversarial_weight=0.0, style_weight=0.0)
    values = []
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: values.append(e.state.output["losses"]["reconstruction"])
    )
    engine.run()
    assert values[-1] < 0.7 * values[0]


def test_training_with_style_alignment_brings_the_styles_together():
    def distance(weight: float) -> float:
        made = tiny_parts()
        tiny_trainer(made, 10, adversarial_weight=0.0, style_weight=weight).run()
        return one_step(made, adversarial_weight=0.0).state.output["losses"]["style"]

    assert distance(1.0) < 0.8 * distance(0.0)


def test_the_number_of_workers_changes_nothing():
    made = [tiny_parts(), tiny_parts()]
    for parts, n in zip(made, (0, 2), strict=True):
        tiny_trainer(parts, 2, loader=tiny_loader(num_workers=n)).run()
    for a, b in zip(*(parts["network"].parameters() for parts in made), strict=True):
        assert torch.equal(a, b)
