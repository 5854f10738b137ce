"""Soft organs of head, chest, abdomen and pelvis, each a few solids in reference coordinates."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
from scipy import ndimage

from pipeline.simulation.patient.body import SOFT_TISSUE
from pipeline.simulation.patient.canvas import Canvas
from pipeline.simulation.patient.details.bowel import paint_bowel
from pipeline.simulation.patient.details.lungs import paint_lung_details
from pipeline.simulation.patient.details.vessels import branches, paint_aorta_wall
from pipeline.simulation.patient.shapes import (
    Shape,
    column,
    curve,
    difference,
    ellipsoid,
    half_space,
    intersection,
    oriented,
    shell,
    smooth_union,
    tube,
)
from pipeline.simulation.patient.skeleton import BONE

__all__ = ["ORGAN_LABELS", "paint_abdomen", "paint_chest", "paint_head", "paint_pelvis"]

ORGAN_LABELS: MappingProxyType[str, int] = MappingProxyType(
    {
        "soft_tissue": SOFT_TISSUE,
        "brain": 2,
        "lung": 3,
        "blood_pool": 4,
        "myocardium": 5,
        "bone": BONE,
        "liver": 7,
        "spleen": 8,
        "kidney": 9,
        "bladder": 10,
        "bowel": 11,
        "stomach": 12,
        "pancreas": 13,
        "parotid": 14,
        "submandibular": 15,
        "lacrimal": 16,
        "pituitary": 17,
        "thyroid": 18,
        "adrenal": 19,
        "duodenum": 20,
        "gallbladder": 21,
        "prostate": 22,
        "uterus": 23,
    }
)
"""Voxel value of each organ in the label map; 0 is air."""

_MOSTLY_INSIDE = 0.85
_BRAIN_CENTER, _BRAIN_HALF_AXES = (0.0, 0.0, 84.0), (65.0, 84.0, 71.0)
# Paired small organs of head and neck: uptake key, centre of the right one, half axes [mm].
_PAIRED_HEAD = (
    ("lacrimal", (42, 66, 105), (7, 7, 5)),
    ("parotid", (54, 0, 165), (12, 17, 22)),
    ("submandibular", (29, 26, 207), (11, 16, 12)),
    ("sublingual", (11, 46, 200), (6, 12, 6)),
    ("tonsil", (16, 8, 180), (6, 6, 9)),
    ("thyroid", (16, 18, 268), (8, 7, 17)),
)


def paint_head(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint brain, pituitary, eyes, airways, salivary and lacrimal glands, tonsils and thyroid."""
    label = ORGAN_LABELS["brain"]
    canvas.paint(ellipsoid((0, 62, 155), (14, 28, 28)), 0.15, tissue="air")
    brain = ellipsoid(_BRAIN_CENTER, _BRAIN_HALF_AXES)
    canvas.paint(brain, suv["white_matter"], label=label, texture=0.06)
    _paint_cortex(canvas, brain, suv["grey_matter"])
    for side in (-1, 1):
        canvas.paint(ellipsoid((side * 24, 10, 88), (9, 20, 15)), suv["grey_matter"])
        canvas.paint(ellipsoid((side * 11, -12, 88), (9, 13, 9)), 0.95 * suv["grey_matter"])
        cerebellum = ellipsoid((side * 24, -44, 132), (26, 25, 17))
        canvas.paint(cerebellum, suv["cerebellum"], label=label, texture=0.10, texture_length=12.0)
        canvas.paint(ellipsoid((side * 8, -2, 80), (4, 22, 9)), suv["cerebrospinal_fluid"])
        canvas.paint(shell(ellipsoid((side * 31, 72, 118), (12, 12, 12)), 4.0), suv["eye_muscle"])
        for organ, (x, y, z), half_axes in _PAIRED_HEAD:
            canvas.paint(ellipsoid((side * x, y, z), half_axes), suv[organ], label=ORGAN_LABELS.get(organ, 0))
    pituitary = ellipsoid((0, 24, 146), (6, 5, 5))
    canvas.paint(pituitary, suv["pituitary"], label=ORGAN_LABELS["pituitary"])


def _paint_cortex(canvas: Canvas, brain: Shape, grey_matter: float) -> None:
    """Paint a folded ribbon of grey matter along the surface of the brain, parted by the midline fissure."""
    box = canvas.box(brain.lower, brain.upper)
    extent = tuple(s.stop - s.start for s in box)
    if min(extent) < 1:
        return
    x, y, z = canvas.coordinates(box)
    d = brain.distance(x, y, z)
    folds = canvas.field(extent, correlation=9.0) > 0.1
    ribbon = np.maximum(d, -d - np.where(folds, np.float32(16), np.float32(7)))
    alpha = np.clip(0.5 - ribbon / np.float32(canvas.edge), 0, 1) * np.clip((np.abs(x) - 2) / 3, 0, 1)
    # Sulci hold fluid between the folds.
    alpha *= 1 - np.float32(0.6) * canvas.sheets(box, spacing=13.0, thickness=2.0)[0]
    texture = canvas.texture(extent, sd=0.10, length=30.0)
    canvas.activity[box] += alpha * (np.float32(grey_matter) * texture - canvas.activity[box])


def paint_chest(
    canvas: Canvas, suv: dict[str, float], *, shift: float, inside: np.ndarray, inflamed_aorta: bool
) -> None:
    """Paint lungs, airways, great vessels and heart.

    The canvas has the body painted. `suv` is the uptake by organ [g/mL], `shift` how far the diaphragm stands lower
    than usual [mm], `inside` the fraction of each voxel inside the muscle wall, shape (X, Y, Z). With `inflamed_aorta`
    the wall of the aorta takes up in patches.
    """
    rng = canvas.rng
    blood, pool = suv["blood"], ORGAN_LABELS["blood_pool"]
    # Lungs follow the square root of the girth: a heavy patient's chest is wide for its wall and the mediastinum.
    width, depth, _ = np.sqrt(canvas.natural((78.0, 5.0, 440.0), (1.0, 1.0, 1.0)))
    boxes = {}
    for side, half_width in ((1, 60), (-1, 56)):
        lung = ellipsoid((side * 78, -5, 440 + shift), (half_width * width, 84 * depth, 122), exponent=2.3)
        canvas.paint(lung, suv["lung"], tissue="lung", label=3, texture=0.22, texture_length=22.0, inside=inside)
        boxes[side] = canvas.box(lung.lower, lung.upper)
    paint_lung_details(canvas, suv, boxes, label=ORGAN_LABELS["lung"], shift=shift)
    trachea = np.array([(0, 0, 195), (0, -5, 250), (0, -18, 330), (0, -25, 390)], dtype=float)
    canvas.paint(column(trachea, 7.5), 0.1, tissue="air")
    aorta = curve(
        [
            (-5, 20, 465),
            (-8, 28, 415),
            (-10, 12, 375),
            (-18, -18, 368),
            (-24, -36, 400),
            (-22, -40, 480),
            (-12, -32, 600),
            (-4, -28, 720),
        ],
        n_points=220,
    )
    radius = np.linspace(14, 9, 220)
    for first in range(0, 220, 44):
        part = slice(first, first + 46)
        if inflamed_aorta:
            paint_aorta_wall(canvas, aorta[part], radius[part], blood * float(rng.uniform(1.1, 1.7)))
        canvas.paint(tube(aorta[part], radius[part] - 2 * inflamed_aorta), blood, label=pool)
    inferior_cava = np.array([(18, -5, 490), (24, -25, 600), (20, -28, 720)], dtype=float)
    canvas.paint(column(inferior_cava, 11.0), blood, label=pool)
    canvas.paint(column(np.array([(24, 8, 345), (22, 5, 450)], dtype=float), 9.0), blood, label=pool)
    _paint_heart(canvas, suv, shift=shift)
    oesophagus = np.array([(0, -30, 300), (-6, -38, 430), (-12, -30, 545)], dtype=float)
    canvas.paint(column(oesophagus, 7.0), suv["oesophagus"])
    if rng.random() < 0.5:
        for side in (-1, 1):
            canvas.paint(ellipsoid((side * 34, -18, 420 + shift), (9, 9, 14)), suv["hilum"])


def _paint_heart(canvas: Canvas, suv: dict[str, float], *, shift: float) -> None:
    """Paint the blood pool with a cup of left-ventricular muscle."""
    rng = canvas.rng
    tilt, turn = rng.uniform(0.55, 0.95), rng.uniform(0.4, 0.8)
    long_axis = np.array([-np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
    second = np.cross([0.0, 0.0, 1.0], long_axis)
    second /= np.linalg.norm(second)
    axes = np.stack([long_axis, second, np.cross(long_axis, second)])
    center = (-26.0, 36.0, 478.0 + shift)
    size = canvas.natural(center, (1.0, 1.0, 1.0))
    scale = float(np.cbrt(size.prod()))
    pool = ORGAN_LABELS["blood_pool"]

    def place(shape: Shape) -> Shape:
        return oriented(shape, center, axes, reach=80.0)

    heart = ellipsoid((-10 * scale, 0, 0), np.array([60.0, 44.0, 48.0]) * scale)
    canvas.paint(place(heart), 0.95 * suv["blood"], label=pool)
    ventricle = ellipsoid((14 * scale, -6, 0), np.array([43.0, 32.0, 32.0]) * scale)
    cup = intersection(shell(ventricle, 10.0 * scale), half_space((-1.0, 0.0, 0.0), 8.0))
    canvas.paint(place(cup), suv["myocardium"], label=ORGAN_LABELS["myocardium"], texture=0.18, texture_length=30.0)
    for side in (-1, 1):
        papillary = ellipsoid((18 * scale, -6 + side * 12 * scale, 10 * scale), np.array([11.0, 4.5, 4.5]) * scale)
        canvas.paint(place(papillary), 0.8 * suv["myocardium"])
    right = intersection(
        shell(ellipsoid((-8 * scale, 8 * scale, -4), np.array([52.0, 38.0, 42.0]) * scale), 4.0 * scale),
        half_space((-1.0, 0.0, 0.0), 8.0),
    )
    canvas.paint(place(right), 0.35 * suv["myocardium"] + 0.65 * suv["blood"], texture=0.2)


def _liver(canvas: Canvas, shift: float, inside: np.ndarray) -> Shape:
    """Return a liver whose volume in the patient is the one drawn for him, whatever his girth."""

    def shape(scale: float) -> Shape:
        # Scaled about the right dome, so that a small liver still lies under the right ribs.
        anchor = np.array([112.0, 2.0, 560.0 + shift])
        sizes = scale * canvas.natural((72.0, 4.0, 588.0), (1.0, 1.0, 1.0))

        def at(x: float, y: float, z: float) -> np.ndarray:
            return anchor + sizes * (np.array([x, y, z + shift]) - anchor)

        right = ellipsoid(at(72, 4, 588), np.array([70.0, 78.0, 82.0]) * sizes, exponent=2.4)
        left = ellipsoid(at(0, 40, 566), np.array([78.0, 38.0, 42.0]) * sizes, exponent=2.2)
        hilum = ellipsoid(at(15, -42, 652), np.array([60.0, 55.0, 58.0]) * sizes)
        return difference(smooth_union(right, left, blend=16.0), hilum.distance)

    box = canvas.box(np.array([-130.0, -110.0, 470.0]), np.array([160.0, 110.0, 720.0]))
    # Every other voxel suffices to measure a litre.
    stride = 2 if canvas.edge < 4 else 1
    sx, sy, sz = (slice(s.start, s.stop, stride) for s in box)
    box = (sx, sy, sz)
    voxel_volume = float(np.prod(canvas.voxel_size)) * stride**3 * 1e-6

    def volume(scale: float) -> float:
        return float((canvas.coverage(shape(scale), box) * inside[box]).sum(dtype=np.float64)) * voxel_volume

    low, high = 0.6, 1.35
    for _ in range(6):
        middle = (low + high) / 2
        if volume(middle) < canvas.physique.liver_volume:
            low = middle
        else:
            high = middle
    return shape((low + high) / 2)


def _paint_liver(canvas: Canvas, suv: dict[str, float], *, shift: float, inside: np.ndarray) -> None:
    """Paint the liver and its vessels, which hold blood: hepatic veins to the cava, portal branches from the hilum."""
    rng = canvas.rng
    label = ORGAN_LABELS["liver"]
    texture, length = float(rng.uniform(0.02, 0.07)), float(rng.uniform(15, 45))
    liver = _liver(canvas, shift, inside)
    canvas.paint(liver, suv["liver"], label=label, texture=texture, texture_length=length, inside=inside)
    organ = canvas.labels == label
    low = np.array([20.0, -50, 520 + shift])
    for root, width, n in (((24.0, -22, 545 + shift), 5.0, 3), ((22.0, 4, 612 + shift), 6.0, 5)):
        ends = low + rng.uniform(0, 1, (n, 3)) * [100, 110, 120]
        for vessel in branches(rng, np.array(root), ends, radius=(width, 1.5)):
            canvas.paint(vessel, suv["blood"], inside=organ)


def _spleen(canvas: Canvas, shift: float, inside: np.ndarray) -> Shape:
    """Return a spleen of 0.1 to 0.3 L under the left ribs, as far to the side as the wall leaves room for it."""
    size = float(np.clip(np.exp(canvas.rng.normal(0.0, 0.07)), 0.84, 1.12))
    half_axes = size * canvas.natural((104.0, 40.0, 575.0), (25.0, 41.0, 46.0))

    def shape(x: float) -> Shape:
        return ellipsoid((x, -40, 575 + shift), half_axes, exponent=2.2)

    for x in (-104.0, -97.0, -90.0, -83.0):
        box = canvas.box(shape(x).lower, shape(x).upper)
        covered = canvas.coverage(shape(x), box)
        if (covered * inside[box]).sum() > _MOSTLY_INSIDE * covered.sum():
            break
    return shape(x)


def paint_abdomen(
    canvas: Canvas,
    suv: dict[str, float],
    *,
    shift: float,
    inside: np.ndarray,
    bowel_variation: float,
    findings: frozenset[str],
) -> None:
    """Paint liver, gallbladder, spleen, stomach, pancreas, adrenals, kidneys and bowel.

    `bowel_variation` is the standard deviation of the logarithm of the uptake along the bowel, `findings` may name
    organs that were removed; for the others see `paint_chest`.
    """
    stomach = ellipsoid((-62, 38, 590 + shift), canvas.natural((62, 38, 590), (38, 38, 52)))
    canvas.paint(stomach, 0.25 * suv["stomach"], label=ORGAN_LABELS["stomach"], inside=inside)
    canvas.paint(shell(stomach, 8.0), suv["stomach"], texture=0.25, texture_length=16.0, inside=inside)
    if "no spleen" not in findings:
        spleen = _spleen(canvas, shift, inside)
        canvas.paint(spleen, suv["spleen"], label=ORGAN_LABELS["spleen"], texture=0.06, inside=inside)
    _paint_liver(canvas, suv, shift=shift, inside=inside)
    if "no gallbladder" not in findings:
        gallbladder = ellipsoid((38, 50, 640 + shift), (12, 12, 24))
        canvas.paint(gallbladder, suv["gallbladder"], label=ORGAN_LABELS["gallbladder"], inside=inside)
    for side in (-1, 1):
        canvas.paint(
            ellipsoid((side * 42, -34, 600 + shift), (5, 10, 12)), suv["adrenal"], label=ORGAN_LABELS["adrenal"]
        )
    sides = (int(canvas.rng.choice([-1, 1])),) if "one kidney" in findings else (-1, 1)
    _paint_kidneys(canvas, suv, shift=shift, sides=sides)
    paint_bowel(
        canvas,
        suv,
        inside=inside,
        variation=bowel_variation,
        bowel_label=ORGAN_LABELS["bowel"],
        duodenum_label=ORGAN_LABELS["duodenum"],
    )
    pancreas = curve([(22, 14, 662), (-10, 18, 642), (-50, 0, 630), (-85, -20, 612)], n_points=60)
    thickness = np.cbrt(canvas.natural((30.0, 0.0, 635.0), (1.0, 1.0, 1.0)).prod()) * np.linspace(13, 9, 60)
    canvas.paint(tube(pancreas, thickness), suv["pancreas"], label=ORGAN_LABELS["pancreas"])


def _paint_kidneys(canvas: Canvas, suv: dict[str, float], *, shift: float, sides: tuple[int, ...]) -> None:
    """Paint cortex, medulla, calyces, pelvis, and the stretches of ureter that hold urine at the moment."""
    rng = canvas.rng
    for side in sides:
        z = 655.0 + (12.0 if side == 1 else 0.0) + shift
        half_axes = canvas.natural((62.0, 48.0, 655.0), (28.0, 25.0, 54.0))
        kidney = ellipsoid((side * 62, -48, z), half_axes)
        canvas.paint(kidney, 1.12 * suv["kidney"], label=ORGAN_LABELS["kidney"], texture=0.12, texture_length=14.0)
        medulla = ellipsoid((side * 61, -48, z), half_axes - 9)
        canvas.paint(medulla, 0.85 * suv["kidney"], texture=0.25, texture_length=9.0)
        full = float(rng.uniform(0.25, 1.0))
        canvas.paint(ellipsoid((side * 54, -45, z), (8, 7, 16)), full * suv["renal_pelvis"])
        for lower in np.linspace(-32, 32, 5)[rng.random(5) < 0.7]:
            calyx = ellipsoid((side * 59, -47 + rng.normal(0, 4), z + lower), rng.uniform(2.5, 5.0, 3))
            canvas.paint(calyx, full * float(rng.uniform(0.4, 1.0)) * suv["renal_pelvis"])
        ureter = curve(
            [(side * 44, -40, z), (side * 38, -38, 740), (side * 42, -40, 800), (side * 22, -12, 855)], n_points=120
        )
        holds = ndimage.gaussian_filter1d(rng.standard_normal(120), 6.0)
        for run in ndimage.find_objects(ndimage.label(holds > 0.7 * holds.std())[0]):
            canvas.paint(tube(ureter[run[0]], float(rng.uniform(1.3, 2.8))), suv["renal_pelvis"])


def paint_pelvis(canvas: Canvas, suv: dict[str, float]) -> None:
    """Paint bladder and the organs of reproduction."""
    rng = canvas.rng
    if canvas.physique.sex == "F":
        canvas.paint(ellipsoid((0, -12, 818), (24, 22, 28)), suv["uterus"], label=ORGAN_LABELS["uterus"], texture=0.1)
        for side in (-1, 1):
            canvas.paint(ellipsoid((side * 38, -10, 812), (10, 9, 12)), suv["ovary"])
    else:
        canvas.paint(ellipsoid((0, 8, 893), (20, 15, 15)), suv["prostate"], label=ORGAN_LABELS["prostate"])
        for side in (-1, 1):
            center = (side * 17, 66, 948)
            canvas.paint(ellipsoid(center, (19, 17, 25)), suv["skin"], label=SOFT_TISSUE)
            canvas.paint(ellipsoid(center, (13, 12, 20)), suv["testis"])
    half_axes = (rng.uniform(28, 46), rng.uniform(25, 38), rng.uniform(22, 36))
    bladder = ellipsoid((0, 22, 852), canvas.natural((0, 22, 852), half_axes))
    canvas.paint(bladder, suv["bladder"], label=ORGAN_LABELS["bladder"])
