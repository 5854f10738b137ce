"""The part on cost: seconds and peak memory of a scan in a process of its own, and multiply-adds per voxel."""

import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.benchmark.parts.images import sampled_case
from pipeline.benchmark.work import Piece, Tables, Work
from pipeline.comparison import Case, DoseRead, Method, noisy_input, state_of, with_dose
from pipeline.engine import Workers, run_tasks
from pipeline.inference import Denoiser
from pipeline.networks import multiply_adds_per_voxel

__all__ = ["cost"]

_LONG = 60.0  # [s] of a first pass that is not repeated
_PASSES = 3  # in turn with the reference, of which the fastest counts: other work on the machine makes none shorter
_COUNTED = 64  # voxels a side that multiply-adds are counted on, with all that a gradient needs


def cost(name: str, method: Method, work: Work, *, reference: Method | None = None) -> Tables:
    """Measure what a method takes for the scan of the samples, beside the reference method in the same process."""
    wanted = work.definition.samples
    if wanted is None or method is noisy_input:
        return {}
    case, factor = sampled_case(wanted, work)
    make = partial(_in_own_process, method, reference, case, factor)
    beside = None if reference is None else work.definition.reference
    depends = [*state_of(case), factor, torch.get_num_threads(), beside]
    return work.tables(name, {"cost": Piece(depends=depends, make=make)}, code=("benchmark/parts/cost",))


def _in_own_process(method: Method, reference: Method | None, case: Case, factor: float) -> Tables:
    task = partial(_measured, method, reference, case, factor)
    return next(tables for _, tables in run_tasks([task], where=Workers(fresh=True)))


def _measured(method: Method, reference: Method | None, case: Case, factor: float) -> Tables:
    low = case.read(case.doses[factor])
    told = with_dose(method, factor)
    before = _peak_memory()
    with _watched(method) as watch:
        seconds = _seconds(told, low)
    memory = _peak_memory()
    compared = [] if reference is None else [with_dose(reference, factor)]
    if seconds < _LONG:
        seconds, *beside = _fastest([told, *compared], low)
    else:
        beside = _fastest(compared, low)
    n_voxels = low.suv.size
    row = {
        "subject": case.name,
        "n_voxels": n_voxels,
        "seconds": seconds,
        "seconds_of_reference": beside[0] if beside else np.nan,
        "peak_memory_mib": memory,
        "memory_before_mib": before,
        "n_threads": torch.get_num_threads(),
        **watch.figures(n_voxels),
    }
    return {"cost": [row]}


def _fastest(methods: Sequence[Method], low: Any) -> list[float]:
    """Return the shortest of some passes of each, taken in turn [s]."""
    passes = [[_seconds(method, low) for method in methods] for _ in range(_PASSES)]
    return np.min(passes, axis=0).tolist()


def _seconds(method: Method, low: Any) -> float:
    started = time.perf_counter()
    method(low)
    return time.perf_counter() - started


def _peak_memory() -> float:
    """Return the most memory that this process has had [MiB]; NaN where the system does not say."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage begins with what the parent had when it started this process
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        return float(found[1]) / 2**10 if found else float("nan")
    if sys.platform != "darwin":
        return float("nan")
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@dataclass
class _Watch:
    """What a network was given while a scan was denoised."""

    network: nn.Module | None = None
    n_voxels: int = 0
    first: tuple[tuple[Any, ...], dict[str, Any]] | None = None

    def see(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Count the voxels of a pass, and keep what the first one was given."""
        volume = next(v for v in (*args, *named.values()) if isinstance(v, Tensor) and v.ndim >= 4)
        self.n_voxels += volume.shape[0] * volume[0, 0].numel()
        if self.first is None:
            self.first = (tuple(map(_copied, args)), {key: _copied(value) for key, value in named.items()})

    def figures(self, n_voxels: int) -> dict[str, float]:
        """Return multiply-adds of a pass per voxel, and passes per voxel of the scan.

        A network that is streamed, layer by layer, passes once.
        """
        if self.network is None or not any(True for _ in self.network.parameters()):
            return {}
        args, named = self.first or ((), {})
        with torch.inference_mode(mode=False):
            per_pass = multiply_adds_per_voxel(self.network.float(), *args, **named)
        return {"multiply_adds_per_pass": per_pass, "n_passes": self.n_voxels / n_voxels if self.first else 1.0}


def _copied(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if value.ndim == 5:
        value = value[..., :_COUNTED, :_COUNTED, :_COUNTED]
    with torch.inference_mode(mode=False):  # else it could not be given to a network that keeps gradients
        copy = value.detach().clone()
        return copy.float() if copy.is_floating_point() else copy


@contextmanager
def _watched(method: Method) -> Iterator[_Watch]:
    """Watch the network of a method, if it has one."""
    inner = method.method if isinstance(method, DoseRead) else method
    watch = _Watch(network=inner.network if isinstance(inner, Denoiser) else None)
    if watch.network is None:
        yield watch
        return
    hook = watch.network.register_forward_pre_hook(watch.see, with_kwargs=True)
    try:
        yield watch
    finally:
        hook.remove()
