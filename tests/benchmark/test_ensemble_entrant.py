"""The ensemble of a method's seeds among the rows of the benchmark."""

from pipeline.benchmark.entrants import Entrant, ensemble_of
from pipeline.benchmark.parts.uncertainty import Ensemble
from pipeline.comparison import noisy_input


def entrant(name, **changes):
    facts = {"entry": "unet", "label": "U-Net", "kind": "network", "method": noisy_input, "identity": name}
    return Entrant(name=name, **(facts | changes))


def test_seeds_make_an_ensemble_and_one_seed_does_not():
    seeds = [entrant("unet"), entrant("unet_seed1", seed=1)]
    (made,) = ensemble_of([*seeds, entrant("unet_dose_read", dose="read")])
    assert made.method == Ensemble((noisy_input, noisy_input))
    assert (made.name, made.label, made.kind) == ("unet_ensemble", "U-Net, 2 seeds", "ensemble")
    assert made.identity == "unet unet_seed1"
    assert made.is_first
    assert ensemble_of(seeds[:1]) == []
