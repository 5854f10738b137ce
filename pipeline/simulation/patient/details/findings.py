"""What some patients have and most have not: organs that were removed, brown fat, fluid, metal, an injection site."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.shapes import Shape, column, curve, ellipsoid, tube

__all__ = ["FINDINGS", "Finding", "draw_findings", "paint_ascites", "paint_findings", "paint_metal"]

_CUSTOMARY = "customary, not traced to one publication"
_CYPESS = "5.4 % of FDG scans, Cypess 2009, N Engl J Med 360:1509; doubled, so that a small cohort has one"


@dataclass(frozen=True)
class Finding:
    """Something that a fraction of patients has."""

    share: float
    """Fraction of the patients that it may occur in."""
    source: str
    """Where the fraction comes from."""
    sexes: str = "FM"
    """Of the patients that it may occur in."""
    tracers: tuple[str, ...] = ()
    """Names of the tracers that show it; none for all."""


FINDINGS: Mapping[str, Finding] = {
    "one kidney": Finding(0.02, _CUSTOMARY),
    "no spleen": Finding(0.02, _CUSTOMARY),
    "no gallbladder": Finding(0.12, _CUSTOMARY),
    "mastectomy": Finding(0.06, _CUSTOMARY, sexes="F"),
    "ascites": Finding(0.03, _CUSTOMARY),
    "pleural effusion": Finding(0.05, _CUSTOMARY),
    "brown fat": Finding(0.11, _CYPESS, tracers=("FDG",)),
    "thyroiditis": Finding(0.04, _CUSTOMARY, tracers=("FDG",)),
    "laryngeal muscles": Finding(0.25, "customary: patients who spoke after the injection", tracers=("FDG",)),
    "injection site": Finding(0.25, _CUSTOMARY),
    "extravasation": Finding(0.03, _CUSTOMARY),
    "arthritis": Finding(0.20, _CUSTOMARY),
    "aortic wall": Finding(0.15, _CUSTOMARY, tracers=("FDG", "FAPI-04")),
    "hip prosthesis": Finding(0.05, _CUSTOMARY),
    "dental metal": Finding(0.30, _CUSTOMARY),
    "faint lymph nodes": Finding(0.60, _CUSTOMARY),
}
"""What may be found, by name."""

# Small nodes that are no lesions: centres of the right side in the reference body [mm].
_NODES = (
    *((44, 2, 225), (46, 8, 260), (40, -18, 290), (118, 5, 380), (126, -8, 395), (110, 12, 400)),
    *((14, -2, 385), (12, -10, 425), (34, -15, 425), (10, 24, 660), (60, 50, 880), (66, 54, 900), (58, 56, 865)),
)
_JOINTS = ((140, -8, 342), (92, -4, 838), (10, -68, 680), (12, -70, 740), (52, 70, 330))
_BROWN_FAT = ((34, -12, 290), (60, -16, 306), (92, -18, 322), (118, -6, 352))


def draw_findings(rng: np.random.Generator, *, sex: str, tracer: str) -> frozenset[str]:
    """Draw what is found in a patient, names of `FINDINGS`; every name takes one draw, whatever sex and tracer."""
    drawn = {name: rng.random() for name in FINDINGS}
    return frozenset(
        name
        for name, finding in FINDINGS.items()
        if drawn[name] < finding.share and sex in finding.sexes and (not finding.tracers or tracer in finding.tracers)
    )


def _brown_fat(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint strands of supraclavicular and paravertebral brown fat, alike on both sides."""
    rng = canvas.rng
    uptake = float(np.exp(rng.uniform(np.log(2.0), np.log(15.0))))
    for side in (-1, 1):
        line = curve(np.array(_BROWN_FAT, dtype=float) * [side, 1, 1], n_points=80)
        strand = tube(line, np.full(80, 5.5))
        value = uptake * float(rng.uniform(0.8, 1.2))
        canvas.paint(strand, value, tissue="fat", texture=0.5, texture_length=10.0, inside=_patches(canvas, 0.75))
        for z in np.arange(350.0, 350.0 + 22 * rng.integers(0, 10), 22.0):
            spot = ellipsoid((side * 26, -62, z), (4.5, 5, 5))
            canvas.paint(spot, 0.6 * value, tissue="fat", texture=0.3, texture_length=8.0)


def _patches(canvas: Canvas, share: float) -> np.ndarray:
    """Return smooth patches that fill a share of the space above the lungs' bases, 0 to 1, shape (X, Y, Z)."""
    field = canvas.field(canvas.shape, correlation=14.0)
    return np.clip(0.5 + 2 * (field + np.float32(2 * share - 1)), 0, 1)


def _pleural_effusion(canvas: Canvas, suv: dict[str, float], lung: int) -> None:
    """Fill the lowest and rearmost part of one or both pleural spaces with fluid."""
    rng = canvas.rng
    both = rng.random() < 0.4
    level = float(rng.uniform(-70, -25))
    for side in rng.permutation([-1, 1])[: 2 if both else 1]:
        base = ellipsoid((side * 78, level - 60, 500), (62, 62, 90))
        fluid = canvas.labels == lung
        box = canvas.box(base.lower, base.upper)
        covered = fluid[box] & (canvas.coverage(base, box) > 0.5)
        canvas.paint(base, float(rng.uniform(0.4, 0.8)) * suv["blood"], texture=0.05, inside=fluid)
        canvas.labels[box][covered] = 1


def _injection(canvas: Canvas, arms: list[tuple[np.ndarray, np.ndarray]], *, extravasated: bool) -> None:
    """Paint tracer that stayed at a vein of one arm: along it, or as a pool in the tissue."""
    rng = canvas.rng
    line, radius = arms[int(rng.integers(0, 2))]
    # From the elbow to the hand.
    place = int(rng.uniform(0.35, 0.95) * len(line))
    surface = line[place] + [0, 0.6 * radius[place], 0]
    if extravasated:
        pool = ellipsoid(surface, rng.uniform(7, 16, 3))
        canvas.paint(pool, float(np.exp(rng.uniform(np.log(20), np.log(120)))), texture=0.6, texture_length=14.0)
    else:
        part = slice(place, min(place + 12, len(line)))
        vein = tube(line[part] + [0, 0.6 * radius[place], 0], 2.5)
        canvas.paint(vein, float(np.exp(rng.uniform(np.log(4), np.log(60)))))


def _larynx(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint the muscles of the voice."""
    uptake = suv["muscle"] * float(canvas.rng.uniform(2, 7))
    for side in (-1, 1):
        canvas.paint(ellipsoid((side * 7, 12, 250), (3.5, 10, 6)), uptake)


def _thyroiditis(canvas: Canvas, suv: dict[str, float]) -> None:
    """Raise the uptake of both lobes of the thyroid and its isthmus."""
    uptake = suv["thyroid"] * float(canvas.rng.uniform(1.8, 6))
    for shape in (*(ellipsoid((s * 16, 18, 268), (8, 8, 20)) for s in (-1, 1)), ellipsoid((0, 26, 276), (12, 4, 6))):
        canvas.paint(shape, uptake, texture=0.3, texture_length=10.0)


def _nodes(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint nodes of 4 to 10 mm whose uptake is that of blood or a little more."""
    rng = canvas.rng
    for _ in range(1 + int(rng.poisson(4))):
        place = np.array(_NODES[int(rng.integers(0, len(_NODES)))], dtype=float) * [rng.choice([-1, 1]), 1, 1]
        half_axes = rng.uniform(2, 5, 3)
        canvas.paint(ellipsoid(place + rng.normal(0, 4, 3), half_axes), suv["blood"] * float(rng.uniform(0.7, 1.5)))


def _arthritis(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint inflamed joints: shells around shoulders and hips, spots at the small joints of the spine."""
    rng = canvas.rng
    for joint in _JOINTS:
        for side in (-1, 1):
            if rng.random() < 0.3:
                half_axes = np.array([16.0, 16, 16] if abs(joint[0]) > 80 else [5.0, 5, 6])
                uptake = suv["marrow"] * float(rng.uniform(0.9, 2.2))
                spot = ellipsoid((side * joint[0], joint[1], joint[2]), half_axes)
                canvas.paint(spot, uptake, tissue=None, texture=0.5, texture_length=14.0)


def paint_ascites(canvas: Canvas, suv: dict[str, float], *, inside: np.ndarray) -> None:
    """Fill the room between the organs of the abdomen with fluid; the organs are painted into it."""
    fluid = ellipsoid((0, 22, 700), (118, 72, 135), exponent=2.6)
    canvas.paint(fluid, float(canvas.rng.uniform(0.4, 0.8)) * suv["blood"], texture=0.05, inside=inside)


def paint_findings(
    canvas: Canvas,
    suv: dict[str, float],
    findings: frozenset[str],
    *,
    arms: list[tuple[np.ndarray, np.ndarray]],
    lung: int,
) -> None:
    """Paint what was found, ascites and metal aside, over a canvas that has every organ.

    `suv` is the uptake by organ [g/mL], `arms` the centre lines and radii of both arms [mm], `lung` its label.
    """
    painters: dict[str, Callable[[], None]] = {
        "pleural effusion": lambda: _pleural_effusion(canvas, suv, lung),
        "brown fat": lambda: _brown_fat(canvas, suv),
        "thyroiditis": lambda: _thyroiditis(canvas, suv),
        "laryngeal muscles": lambda: _larynx(canvas, suv),
        "injection site": lambda: _injection(canvas, arms, extravasated=False),
        "extravasation": lambda: _injection(canvas, arms, extravasated=True),
        "arthritis": lambda: _arthritis(canvas, suv),
        "faint lymph nodes": lambda: _nodes(canvas, suv),
    }
    for name, paint in painters.items():
        if name in findings:
            paint()


def paint_metal(canvas: Canvas, findings: frozenset[str]) -> None:
    """Paint metal: in teeth, and the head and stem of a hip. It takes up nothing and attenuates most."""
    rng = canvas.rng
    shapes: list[Shape] = []
    if "hip prosthesis" in findings:
        side = float(rng.choice([-1, 1]))
        stem = np.array([(88, -5, 838), (112, -8, 872), (103, -5, 960), (97, -4, 1010)]) * [side, 1, 1]
        shapes += [ellipsoid((side * 88, -5, 838), (17, 17, 17)), column(stem, 7.0)]
    if "dental metal" in findings:
        for _ in range(int(rng.integers(1, 6))):
            angle = rng.uniform(0.2, np.pi - 0.2)
            place = np.array([24 * np.cos(angle), 40 + 26 * np.sin(angle), rng.choice([183.0, 193.0])])
            shapes.append(ellipsoid(place, (3.5, 3.5, 4)))
    for shape in shapes:
        canvas.paint(shape, 0.0, tissue="metal")
