"""What enters a benchmark: the noisy input, tuned filters, and every method with the weights of each seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as with_changes
from pathlib import Path
from typing import Any, Literal

from pipeline.benchmark.budget import budget_of
from pipeline.benchmark.definition import MethodEntry
from pipeline.benchmark.parts.uncertainty import Ensemble
from pipeline.comparison import Competitors, DoseRead, Method, TunedFilter, noisy_input
from pipeline.comparison.filters import FILTERS
from pipeline.errors import PETError
from pipeline.files import sha256_of
from pipeline.inference import Denoiser
from pipeline.networks import n_parameters
from pipeline.shipped import method_files

__all__ = ["Entrant", "classical", "ensemble_of", "networks_of"]


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A row of the benchmark."""

    name: str
    """As in files and tables, such as unet_seed1."""
    entry: str
    """Name in the definition, such as unet."""
    label: str
    """As a person reads it."""
    kind: Literal["input", "filter", "network", "ensemble"]
    method: Method
    identity: str
    """What its results depend on."""
    seed: int = 0
    dose: Literal["", "stated", "read"] = ""
    """Whether a method that needs the dose is told it, or reads it from the scan."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What is known of it without measuring: weights, parameters, budget of the training."""

    @property
    def described(self) -> dict[str, Any]:
        """What is stored of it beside what was measured."""
        names = ("name", "entry", "label", "kind", "seed", "dose", "facts")
        return {name: getattr(self, name) for name in names}

    @property
    def is_first(self) -> bool:
        """Whether it is the one that stands for its method where one is enough."""
        return self.seed == 0 and self.dose != "read"


def classical(filters: Sequence[str], competitors: Competitors) -> list[Entrant]:
    """Return the input and the filters with their settings."""
    found = [Entrant(name="input", entry="input", label="noisy input", kind="input", method=noisy_input, identity="")]
    for name in filters:
        tuned = {(scanner, dose): value for (n, scanner, dose), value in competitors.tuned.items() if n == name}
        if not tuned:
            raise PETError(f"filter {name} has no settings, expected subjects to choose them on (tuning)")
        settings = [{"scanner": s, "dose_reduction_factor": d, "setting": v} for (s, d), v in sorted(tuned.items())]
        found.append(
            Entrant(
                name=name,
                entry=name,
                label=FILTERS[name].label,
                kind="filter",
                method=TunedFilter(name=name, tuned=tuned),
                identity=repr(settings),
                facts={"settings": settings},
            )
        )
    return found


def networks_of(
    name: str,
    entry: MethodEntry,
    *,
    weights: Path | None,
    bundle: Path,
    device: str | None = None,
    say: Callable[[str], object] = print,
) -> Iterator[Entrant]:
    """Yield a method with the weights of every seed that is there, told the dose and, where it needs it, not told.

    `weights` is the folder of trainings; what is missing of them is told to `say` in one line and left out.

    Raises
    ------
    PETError
        If the method does not exist, or weights do not fit it.
    """
    method = entry.method or name
    for seed in range(entry.seeds):
        row = name if seed == 0 else f"{name}_seed{seed}"
        path = None
        if entry.weights == "trained":
            path = None if weights is None else weights / row / "model.pt"
            if path is None or not path.is_file():
                where = "no folder of weights was named" if path is None else f"{path} does not exist"
                say(f"{row} is left out: {where}")
                continue
        denoiser = Denoiser.from_bundle(bundle, method=method, weights=path, device=device)
        files = [bundle / "configs" / "inference.yaml", *method_files(bundle, method)]
        identity = " ".join([str(denoiser.weights_sha256), str(denoiser.device), *map(sha256_of, files)])
        facts = {
            "method": Path(method).stem,
            "weights_sha256": denoiser.weights_sha256,
            "n_parameters": n_parameters(denoiser.network),
            "training": {} if path is None else budget_of(path.parent),
        }
        label = entry.label or name
        told = Entrant(
            name=row,
            entry=name,
            label=label if seed == 0 else f"{label}, seed {seed}",
            kind="network",
            method=denoiser,
            identity=identity,
            seed=seed,
            facts=facts,
        )
        if not denoiser.knows_dose:
            yield told
            continue
        yield with_changes(told, dose="stated", label=f"{told.label}, dose stated", identity=f"{identity} stated")
        yield with_changes(
            told,
            name=f"{row}_dose_read",
            dose="read",
            label=f"{told.label}, dose read",
            method=DoseRead(denoiser),
            identity=f"{identity} read",
        )


def ensemble_of(entrants: Sequence[Entrant]) -> list[Entrant]:
    """Return the ensemble of a method's seeds, whose spread is an uncertainty; none of a single seed."""
    members = [entrant for entrant in entrants if entrant.dose != "read"]
    if len(members) < 2:
        return []
    first = members[0]
    return [
        with_changes(
            first,
            name=f"{first.entry}_ensemble",
            label=f"{first.label}, {len(members)} seeds",
            kind="ensemble",
            method=Ensemble(tuple(member.method for member in members)),
            identity=" ".join(member.identity for member in members),
        )
    ]
