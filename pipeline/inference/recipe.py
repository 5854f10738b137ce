"""How a denoiser is made: small enough to be sent to another process, which makes it once."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.errors import PETError
from pipeline.inference.denoiser import Denoiser

__all__ = ["DenoiserRecipe"]


@dataclass(frozen=True, kw_only=True)
class DenoiserRecipe:
    """What `Denoiser.from_bundle` makes a denoiser of. A call returns it, the same one every time in a process.

    Raises
    ------
    PETError
        When it is called: what `Denoiser.from_bundle` raises, or a dose is stated for a method that asks for none.
    """

    bundle: Path | None = None
    """Folder of the bundle; by default the one that comes along."""
    method: str = "unipet"
    """Name of a file in ``configs/methods``, or the path of such a file."""
    device: str | None = None
    """By default a GPU when there is one."""
    weights: Path | None = None
    """File of weights in place of the method's own."""
    strength: float | None = None
    """Part of the change that is made."""
    dose_reduction_factor: float | None = None
    """Stated dose, for a method that must know it."""

    def __call__(self) -> Denoiser:
        """Return the denoiser."""
        return _made(self)


@cache
def _made(recipe: DenoiserRecipe) -> Denoiser:
    denoiser = Denoiser.from_bundle(
        recipe.bundle,
        method=recipe.method,
        device=recipe.device,
        weights=recipe.weights,
        strength=recipe.strength,
    )
    factor = recipe.dose_reduction_factor
    if factor is None:
        return denoiser
    if not denoiser.knows_dose:
        raise PETError(f"--drf {factor:g} was given, but {recipe.method} asks for no dose, expected none")
    return denoiser.at_dose(factor)
