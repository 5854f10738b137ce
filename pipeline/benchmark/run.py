"""The benchmark's run: one method after the other, every part of it, each result stored as soon as it is there."""

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipeline import __version__
from pipeline.benchmark.definition import PARTS, Definition
from pipeline.benchmark.entrants import Entrant, classical, ensemble_of, networks_of
from pipeline.benchmark.parts.cost import cost
from pipeline.benchmark.parts.detection import detection, study_of
from pipeline.benchmark.parts.images import images, real, samples, unseen
from pipeline.benchmark.parts.phantom import phantom, phantom_study_of
from pipeline.benchmark.parts.uncertainty import uncertainty
from pipeline.benchmark.results import Stored, write_result
from pipeline.benchmark.work import Part, Work
from pipeline.comparison import (
    Case,
    Competitors,
    KeptResults,
    check_other_cases,
    doses_of,
    filters_named,
    state_of,
    tune_competitors,
)
from pipeline.engine import Workers
from pipeline.errors import PETError
from pipeline.files import locked_folder
from pipeline.shipped import method_files, own_bundle

__all__ = ["measure_benchmark"]

_PARTS: Mapping[str, Part] = {
    "images": images,
    "unseen": unseen,
    "real": real,
    "samples": samples,
    "detection": detection,
    "phantom": phantom,
    "uncertainty": uncertainty,
    "cost": cost,
}
_ONCE = ("samples", "uncertainty", "cost")
"""Parts that one row of each method is enough for."""


def measure_benchmark(
    definition: Definition,
    output: Path,
    *,
    weights: Path | None = None,
    root: Path | None = None,
    scans: Path | None = None,
    bundle: Path | None = None,
    methods: Sequence[str] = (),
    parts: Sequence[str] = (),
    device: str | None = None,
    jobs: Workers | int = 1,
    say: Callable[[str], object] = print,
    on_step: Callable[[str, str], object] = lambda row, part: None,
) -> list[Path]:
    """Measure what is missing of a benchmark and store it below `output`; return the files of the results.

    Parameters
    ----------
    definition
        What is measured, see :func:`~pipeline.benchmark.read_definition`.
    output
        Folder: ``results/PART/NAME.json`` for every row, and ``kept`` with what lets a killed run go on.
    weights
        Folder of trainings: NAME/model.pt, of further seeds NAME_seed1/model.pt. What is missing is said and left out.
    root
        Folder of the subjects, by default that of each manifest, or ``data`` below `output` for what is simulated.
    scans
        Folder of real scans.
    bundle
        Folder of the bundle, by default the one that comes along.
    methods, parts
        Only these, by name; a method that is named must have weights.
    device
        Such as cuda; by default a GPU when there is one.
    jobs
        Processes, which share the subjects of a part.
    say
        Is told in one line what is left out.
    on_step
        Is told (row, part) when it begins.

    Raises
    ------
    PETError
        If a method or part does not exist or cannot be set so, a named method has no weights, data are missing, or
        nothing was measured.
    """
    place = own_bundle() if bundle is None else bundle
    _check_names(definition, methods, parts)
    _check_settings(definition, place, weights)
    said: set[str] = set()

    def say_once(line: str) -> None:
        if line not in said:
            say(line)
        said.add(line)

    wanted_parts = [part for part in definition.parts if part in _PARTS and (not parts or part in parts)]
    with locked_folder(output, "measuring this benchmark"):
        identities = {"input": ""}  # parts may look at the input beside a method
        work = Work(
            definition=definition,
            root=root,
            scans=scans,
            folder=output,
            kept=KeptResults(output / "kept", identities),
            jobs=jobs,
            say=say_once,
        )
        entrants = partial(_entrants, definition, work, weights=weights, bundle=place, device=device)
        written = []
        for entrant in entrants(methods):
            identities[entrant.name] = entrant.identity
            for part in wanted_parts:
                if not _is_asked(entrant, part):
                    continue
                on_step(entrant.name, part)
                measure = _PARTS[part]
                if part == "cost":
                    measure = partial(cost, reference=_reference(definition, weights, place, device))
                tables = measure(entrant.name, entrant.method, work)
                if any(tables.values()):
                    written.append(write_result(output, Stored(part, entrant.described, _run(device, jobs), tables)))
        if not written:
            raise PETError(f"{output}: nothing was measured, expected a method with weights and a part with data")
        return written


def _is_asked(entrant: Entrant, part: str) -> bool:
    """Return whether a row has a part: one of each method is enough for some, and the input states no error."""
    if entrant.kind == "ensemble":
        return part == "uncertainty"
    if entrant.kind == "input" and part == "uncertainty":
        return False
    return part not in _ONCE or entrant.is_first


def _check_names(definition: Definition, methods: Sequence[str], parts: Sequence[str]) -> None:
    known = definition.names
    if unknown := [name for name in methods if name not in known]:
        raise PETError(f"method {unknown[0]!r} is not in the benchmark, expected one of {', '.join(known)}")
    if unknown := [name for name in parts if name not in PARTS]:
        raise PETError(f"part {unknown[0]!r} is not known, expected one of {', '.join(PARTS)}")
    if absent := [name for name in parts if name not in definition.parts]:
        raise PETError(
            f"part {absent[0]!r} has no data in this benchmark, expected one of {', '.join(definition.parts)}"
        )


def _check_settings(definition: Definition, bundle: Path, weights: Path | None) -> None:
    """Refuse at once what would end the run when its turn comes."""
    if weights is not None and not weights.is_dir():
        raise PETError(f"{weights}: is no folder, expected that of the trainings")
    for name, entry in definition.methods.items():
        method_files(bundle, entry.method or name)
    if definition.detection is not None:
        study_of(definition.detection).request(0)
    if definition.phantom is not None:
        study = phantom_study_of(definition.phantom)
        study.request(study.ratios[0])


def _entrants(
    definition: Definition,
    work: Work,
    methods: Sequence[str],
    *,
    weights: Path | None,
    bundle: Path,
    device: str | None,
) -> Iterator[Entrant]:
    """Yield every row that is asked for, a method at a time."""
    filters: list[str] = []
    for wanted in definition.filters:
        try:
            filters += filters_named([wanted]) if not methods or wanted in methods else ()
        except PETError as error:  # not installed
            if methods:
                raise
            work.say(f"{wanted} is left out: {error}")
    competitors = _tuned(definition, work, filters) if filters else Competitors(filters=())
    yield from (e for e in classical(filters, competitors) if not methods or e.entry in methods)
    trained = [name for name, entry in definition.methods.items() if entry.weights == "trained"]
    left_out = trained if weights is None and not methods else []
    if left_out:
        work.say(f"{', '.join(left_out)}: left out, no folder of weights was named")
    for name, entry in definition.methods.items():
        if name in left_out or (methods and name not in methods):
            continue
        missing: list[str] = []
        found = list(networks_of(name, entry, weights=weights, bundle=bundle, device=device, say=missing.append))
        if methods and not found:
            raise PETError(f"{missing[0]}, expected the weights of a method that was asked for by name")
        for line in missing:
            work.say(line)
        yield from (*found, *ensemble_of(found))


def _reference(definition: Definition, weights: Path | None, bundle: Path, device: str | None) -> Any:
    """Return the reference method, first seed; None where it has no weights."""
    name = definition.reference
    found = networks_of(
        name, definition.methods[name], weights=weights, bundle=bundle, device=device, say=lambda line: None
    )
    return next((entrant.method for entrant in found if entrant.is_first), None)


def _tuned(definition: Definition, work: Work, filters: Sequence[str]) -> Competitors:
    """Choose the settings of filters on subjects that are not measured, or take those of an earlier run."""
    others: list[Case] = [case for source in definition.tuning for case in work.cases(source)]
    if not others:
        raise PETError(f"filter {filters[0]} has no subjects to be tuned on, expected some under tuning")
    sources = [*definition.images.values(), *definition.unseen.values()]
    check_other_cases([case for source in sources for case in work.cases(source)], others)

    tuned: dict[tuple[str, str, float], float] = {}
    for name in filters:
        for factor in doses_of(others):
            # Kept by name and dose, for it takes a while.
            made = KeptResults(work.kept.folder, {name: "settings"}).piece(
                f"tuning_drf{factor:g}",
                name,
                [state_of(case) for case in others],
                partial(_setting, others, name, factor),
                code=("comparison/baselines",),
            )
            tuned |= {(name, row["scanner"], factor): row["setting"] for row in made["settings"]}
    return Competitors(filters=tuple(filters), tuned=tuned)


def _setting(cases: Sequence[Case], name: str, factor: float) -> dict[str, Any]:
    found = tune_competitors(cases, filters=(name,), factors=(factor,)).tuned
    return {"settings": [{"scanner": scanner, "setting": value} for (_, scanner, _), value in found.items()]}


def _run(device: str | None, jobs: Workers | int) -> dict[str, Any]:
    """Return when, where and with what a result was measured."""
    return {
        "version": __version__,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "n_cores": os.cpu_count(),
        "device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
        "threads": torch.get_num_threads(),
        "jobs": Workers.of(jobs).jobs,
        "torch": torch.__version__,
    }


def _processor() -> str:
    """Return the name of the processor, as far as the system tells it."""
    told = Path("/proc/cpuinfo")
    lines = told.read_text(encoding="utf-8").splitlines() if told.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
