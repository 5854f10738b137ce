"""What must not differ among the scans of a site: scanner, voxels, reconstruction, filter, tracer; and full doses."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.adaptation.scans import SiteScan
from pipeline.data.building.headers import ImageHeader
from pipeline.errors import PETError
from pipeline.pet.tracer_names import tracer_in

__all__ = ["HIGHEST_NOISE", "check_full_doses", "common_protocol"]

HIGHEST_NOISE = 0.20
"""Coefficient of variation of the liver's noise that a full dose may have: clinical full doses have .05 to .14, a real
Discovery ST scan .17; a quarter of a usual dose has .2 and more."""
_TIMES_MEDIAN = 1.8  # the noise of patients of one protocol differs with their weight; a quarter of the dose doubles it
_FEWEST_FOR_MEDIAN = 3
_SAME_SIDE = 0.02  # [mm] what files round

_FIELDS: Mapping[str, Callable[[ImageHeader], str]] = {
    "scanner": lambda header: header.scanner,
    "reconstruction": lambda header: header.pet.reconstruction_method,
    "filter": lambda header: header.pet.reconstruction_filter,
    "tracer": lambda header: tracer_in(header.tracer) or header.tracer,
    "radionuclide": lambda header: header.pet.radionuclide,
}


def common_protocol(scans: Sequence[SiteScan]) -> dict[str, str]:
    """Return the protocol that the scans share, in words; a field that no scan states is "not stated".

    A scan that does not state a field may have what the others state.

    Raises
    ------
    PETError
        If a field differs: which, between which two scans, and how.
    """
    protocol = {"voxel size": _common_voxels(scans)}
    for field, value_of in _FIELDS.items():
        stated = {scan.name: value for scan in scans if (value := " ".join(value_of(scan.header).split()))}
        counts = Counter(value.casefold() for value in stated.values())
        if len(counts) > 1:
            usual = counts.most_common(1)[0][0]
            others = {name: value for name, value in stated.items() if value.casefold() != usual}
            one = next(name for name, value in stated.items() if value.casefold() == usual)
            _refuse(field, one, stated[one], others)
        protocol[field] = next(iter(stated.values()), "not stated")
    return protocol


def _common_voxels(scans: Sequence[SiteScan]) -> str:
    sides = {scan.name: scan.header.voxel_size for scan in scans}
    texts = {name: " x ".join(f"{side:.2f}" for side in size) + " mm" for name, size in sides.items()}
    usual = Counter(texts.values()).most_common(1)[0][0]
    one = next(name for name, text in texts.items() if text == usual)
    others = {name: texts[name] for name, size in sides.items() if not np.allclose(size, sides[one], atol=_SAME_SIDE)}
    if others:
        _refuse("voxel size", one, usual, others)
    return usual


def _refuse(field: str, one: str, usual: str, others: Mapping[str, str]) -> None:
    name, value = next(iter(others.items()))
    more = f" (and {len(others) - 1} more scans differ)" if len(others) > 1 else ""
    raise PETError(f"{name}: {field} is {value}, and {usual} in {one}{more}; expected scans of one protocol")


def check_full_doses(noise: Mapping[str, float], *, allow_noisy: bool = False) -> None:
    """Refuse scans that are themselves of low dose, by the noise in the liver: name of the scan -> CoV.

    Raises
    ------
    PETError
        If a scan is noisier than a full dose is, or much noisier than the others are.
    """
    if allow_noisy:
        return
    name, worst = max(noise.items(), key=lambda item: item[1])
    found = f"{name}: noise of the liver has a coefficient of variation of {worst:.3f}"
    remedy = "; leave it out, or --allow-noisy"
    if worst > HIGHEST_NOISE:
        raise PETError(f"{found}, expected at most {HIGHEST_NOISE:.2f} of a full dose{remedy}")
    median = float(np.median(list(noise.values())))
    if len(noise) >= _FEWEST_FOR_MEDIAN and worst > _TIMES_MEDIAN * median:
        raise PETError(f"{found}, {worst / median:.1f} times the median of these scans, expected full doses{remedy}")
