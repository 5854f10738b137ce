"""In which order, resolution and delay the planes of a volume go through the layers of a streamed network."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.networks import BaseDenoisingNetwork, Downsample, ResidualBlock

__all__ = ["Stage", "chain", "network_stages", "stages_alignment", "total_lag"]


@dataclass(frozen=True)
class Stage:
    """A layer that is fed planes: a 3x3x3 convolution, or what leads between levels."""

    lag: int
    """Planes of its level by which it is behind: of a slab start to stop it is fed start - lag to stop - lag."""
    level: int = 0
    """0 is the working resolution; every level has half the resolution of the one before."""
    weight: int = 1
    """Work per voxel relative to a convolution of level 0; a level has twice the channels of the one before."""


def chain(n_convolutions: int) -> tuple[Stage, ...]:
    """Stages of 3x3x3 convolutions in a row."""
    return tuple(Stage(lag) for lag in range(n_convolutions))


def network_stages(network: BaseDenoisingNetwork) -> tuple[Stage, ...]:
    """Stages of a network: first convolution, two for each residual block, one between levels, last convolution."""
    stages = [Stage(0)]
    level, lag = 0, 1
    for step in network.steps:
        if isinstance(step, ResidualBlock):
            stages += [Stage(lag, level, 4**level), Stage(lag + 1, level, 4**level)]
            lag += 2
        elif isinstance(step, Downsample):
            lag += lag % 2  # planes go down in pairs
            stages.append(Stage(lag, level, 0))
            level, lag = level + 1, lag // 2
        else:
            stages.append(Stage(lag, level, 0))
            level, lag = level - 1, 2 * lag
    return (*stages, Stage(lag))


def total_lag(stages: Sequence[Stage]) -> int:
    """Planes of level 0 by which the result is behind what is fed."""
    return stages[-1].lag + 1


def stages_alignment(stages: Sequence[Stage]) -> int:
    """Planes of level 0 per plane of the deepest level: slabs begin and end at multiples of it."""
    return int(2 ** max(stage.level for stage in stages))
