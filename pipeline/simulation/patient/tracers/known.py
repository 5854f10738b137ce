"""Every tracer that can be simulated, by its name."""

import re

from pipeline.errors import PETError
from pipeline.simulation.patient.tracers.dotatate import DOTATATE
from pipeline.simulation.patient.tracers.fapi import FAPI
from pipeline.simulation.patient.tracers.fdg import FDG
from pipeline.simulation.patient.tracers.flt import FLT
from pipeline.simulation.patient.tracers.fluoride import FLUORIDE
from pipeline.simulation.patient.tracers.psma_11 import PSMA_11
from pipeline.simulation.patient.uptake import Tracer

__all__ = ["TRACERS", "tracer_named"]

TRACERS = (FDG, PSMA_11, DOTATATE, FAPI, FLT, FLUORIDE)
"""Every tracer that can be simulated."""


def tracer_named(name: str) -> Tracer:
    """Return the tracer of a name or an alias, such as ``"FDG"``, ``"PSMA"`` or ``"68Ga-DOTATATE"``.

    Case, spaces and punctuation do not matter.

    Raises
    ------
    PETError
        If there is none of that name.
    """

    def plain(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())

    for tracer in TRACERS:
        if plain(name) in {plain(alias) for alias in (tracer.name, *tracer.aliases)}:
            return tracer
    raise PETError(f"tracer {name!r} is not known, expected one of {', '.join(t.name for t in TRACERS)}")
