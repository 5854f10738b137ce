"""Whether the tracer that a scan is labelled with agrees with its radionuclide and its half-life.

Mislabelled scans exist in public data: 68Ga-DOTA scans labelled FDG pass every check of a reader and teach a network
the wrong uptake.
"""

import re

from pipeline.pet.suv.nuclides import HALF_LIFE

__all__ = ["nuclide_of_half_life", "tracer_conflict", "tracer_in"]

_TRACERS: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("FDG", r"FDG|FLUORO?DEOXY|FLUDEOXY|FLUORO?DESOXY", frozenset({"F-18"})),
    ("DOTATATE", r"DOTA[- ]?TATE|DOTATE", frozenset({"Ga-68", "Cu-64"})),
    ("DOTATOC", r"DOTA[- ]?TOC|EDOTREOTIDE", frozenset({"Ga-68"})),
    ("DOTANOC", r"DOTA[- ]?NOC", frozenset({"Ga-68"})),
    ("DOTA", r"DOTA", frozenset({"Ga-68", "Cu-64"})),
    ("PSMA-11", r"PSMA[- ]?11|GOZETOTIDE", frozenset({"Ga-68"})),
    ("PSMA-1007", r"PSMA[- ]?1007", frozenset({"F-18"})),
    ("PSMA", r"PSMA|DCFPYL|PIFLUFOLASTAT", frozenset({"Ga-68", "F-18", "Cu-64"})),
    ("FAPI", r"FAPI", frozenset({"Ga-68", "F-18"})),
    ("fluciclovine", r"FLUCICLOVINE", frozenset({"F-18"})),
    ("FLT", r"\bFLT\b|FLUORO?THYMIDINE", frozenset({"F-18"})),
    ("fluoride", r"FLUORIDE|\bNAF\b", frozenset({"F-18"})),
    ("choline", r"CHOLINE", frozenset({"C-11", "F-18"})),
)
"""Name, how scanners write it, and the radionuclides that it comes with."""

_SAME_HALF_LIFE = 0.05
"""Relative difference of two half-lives that mean one nuclide."""


def tracer_in(text: str) -> str:
    """Return the tracer that a text such as ``"F-18 FDG -- fluorodeoxyglucose"`` names, or ``""``."""
    return next((name for name, pattern, _ in _TRACERS if re.search(pattern, text.upper())), "")


def nuclide_of_half_life(half_life: float) -> str:
    """Return the nuclide with a half-life [s] within 5 % of the given one, or ``""``."""
    nuclide, nearest = min(HALF_LIFE.items(), key=lambda item: abs(item[1] - half_life))
    return nuclide if abs(half_life / nearest - 1) <= _SAME_HALF_LIFE else ""


def tracer_conflict(*, label: str, nuclide: str = "", half_life: float | None = None, expected: str = "") -> str | None:
    """Return in one sentence what contradicts a scan's tracer, or None where nothing does.

    The `label` is what the scan calls its radiopharmaceutical; a text that names no known tracer contradicts nothing.
    The `nuclide` is that of its code, such as ``"F-18"``, the `half_life` [s] what the scan states, and `expected` the
    tracer that the whole data set is said to have.
    """
    tracer = tracer_in(label)
    if expected and tracer and tracer_in(expected) != tracer:
        return f"labelled {tracer}, expected {expected} as in the whole data set"
    tracer = tracer or tracer_in(expected)
    by_half_life = nuclide_of_half_life(half_life) if half_life else ""
    if nuclide and by_half_life and nuclide != by_half_life:
        return f"radionuclide is {nuclide}, but the half-life of {half_life:.0f} s is that of {by_half_life}"
    allowed = next((nuclides for name, _, nuclides in _TRACERS if name == tracer), None)
    if allowed is None:
        return None
    if nuclide and nuclide not in allowed:
        return f"labelled {tracer}, but the radionuclide is {nuclide}, expected {' or '.join(sorted(allowed))}"
    if half_life and by_half_life not in allowed:
        whose = f"that of {by_half_life}" if by_half_life else "of no known nuclide"
        return f"labelled {tracer}, but the half-life of {half_life:.0f} s is {whose}"
    return None
