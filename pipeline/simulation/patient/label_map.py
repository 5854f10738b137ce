"""Phantoms from a user's label map, such as a segmented CT, instead of procedural anatomy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.errors import PETError
from pipeline.simulation.patient.body import SOFT_TISSUE
from pipeline.simulation.patient.canvas import ATTENUATION, Canvas
from pipeline.simulation.patient.lesions import LESION_SITES, coarse_voxels, draw_lesion_count, paint_lesions
from pipeline.simulation.patient.organs import ORGAN_LABELS
from pipeline.simulation.patient.phantom import Phantom
from pipeline.simulation.patient.physique import TOP_MARGIN, body_mass
from pipeline.simulation.patient.tracers import FDG
from pipeline.simulation.patient.uptake import Tracer, draw_uptake

__all__ = ["LabelTissue", "phantom_from_labels"]

_TEXTURE = 0.06  # standard deviation relative to the organ's mean
_TEXTURE_LENGTH = 25.0  # [mm]
_SKIN_DEPTH = 15.0  # [mm] lesions of soft tissue and nodes lie deeper than this
_MOST_SAMPLES = 3  # per voxel and axis

# Organ label and tissue of the organs of a tracer's table that differ from their own name and from soft tissue.
_LABEL_OF = {
    "grey_matter": "brain",
    "white_matter": "brain",
    "cerebellum": "brain",
    "blood": "blood_pool",
    "marrow": "bone",
    "cortical_bone": "bone",
    "colon": "bowel",
    "small_bowel": "bowel",
}
_TISSUE_OF = {"lung": "lung", "marrow": "bone", "cortical_bone": "bone", "fat": "fat", "breast": "fat"}


@dataclass(frozen=True)
class LabelTissue:
    """What one value of a label map stands for."""

    uptake: str | float
    """Organ of the tracer's table, whose uptake is drawn for the patient; or SUVbw [g/mL]."""
    attenuation: str | float | None = None
    """Key of `ATTENUATION` or linear attenuation coefficient at 511 keV [1/mm]; None for what the organ usually has."""
    organ: str | None = None
    """Name in `ORGAN_LABELS`, for lesions and measurements; None for what the uptake is named after."""

    def organ_label(self) -> int:
        """Value in the phantom's labels; soft tissue where nothing says otherwise."""
        name = self.organ or (_LABEL_OF.get(self.uptake, self.uptake) if isinstance(self.uptake, str) else "")
        return ORGAN_LABELS.get(name, SOFT_TISSUE)

    def attenuation_coefficient(self) -> float:
        """[1/mm]."""
        if isinstance(self.attenuation, str):
            return ATTENUATION[self.attenuation]
        if self.attenuation is not None:
            return float(self.attenuation)
        named = self.uptake if isinstance(self.uptake, str) else self.organ
        return ATTENUATION["bone" if named == "bone" else _TISSUE_OF.get(named or "", "soft")]


def _checked(value: int, entry: str | float | LabelTissue, tracer: Tracer) -> LabelTissue:
    """An entry of the user's table in full."""
    tissue = entry if isinstance(entry, LabelTissue) else LabelTissue(entry)
    if isinstance(tissue.uptake, str) and tissue.uptake not in tracer.organs:
        raise PETError(f"label {value}: {tracer.name} has no organ {tissue.uptake!r}, expected {_names(tracer.organs)}")
    if not isinstance(tissue.uptake, str) and not 0 <= tissue.uptake < np.inf:
        raise PETError(f"label {value}: SUV is {tissue.uptake}, expected 0 or more")
    if isinstance(tissue.attenuation, str) and tissue.attenuation not in ATTENUATION:
        raise PETError(
            f"label {value}: tissue {tissue.attenuation!r} is not known, expected {_names(ATTENUATION)}, or 1/mm"
        )
    # Twice that of bone, for contrast medium and metal; more is a coefficient in 1/cm.
    if not 0 <= tissue.attenuation_coefficient() <= 2 * ATTENUATION["bone"]:
        raise PETError(
            f"label {value}: attenuation is {tissue.attenuation} 1/mm, expected 0 to {2 * ATTENUATION['bone']:g}"
        )
    if tissue.organ is not None and tissue.organ not in ORGAN_LABELS:
        raise PETError(f"label {value}: organ {tissue.organ!r} is not known, expected {_names(ORGAN_LABELS)}")
    return tissue


def _names(table: Mapping[str, object]) -> str:
    return "one of " + ", ".join(table)


def _check_map(labels: np.ndarray, affine: np.ndarray, tissues: Mapping[int, object]) -> np.ndarray:
    """The map as int32, if it is one and its table is complete."""
    if labels.ndim != 3 or min(labels.shape) < 2:
        raise PETError(f"label map has shape {labels.shape}, expected three axes of at least 2 voxels")
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise PETError("affine of the label map is not an invertible 4x4 matrix")
    whole = labels.astype(np.int32)
    if not np.array_equal(whole, labels) or whole.min() < 0:
        raise PETError("label map holds fractions or negative values, expected whole numbers from 0 (air)")
    found = set(np.unique(whole).tolist()) - {0}
    if not found:
        raise PETError("label map is empty, expected labels above 0 inside the body")
    if missing := sorted(found - set(tissues)):
        raise PETError(f"label map holds {missing}, expected an uptake for each label; 0 is air")
    if 0 in tissues:
        raise PETError("label 0 has an uptake, expected none: 0 is air")
    return whole


def _grid_to_map(
    labels: np.ndarray, affine: np.ndarray, shape: tuple[int, int, int], voxel_size: tuple[float, float, float]
) -> np.ndarray:
    """Voxel indices of the phantom to those of the map. Shape (4, 4).

    The body is centred along X and Y, and begins `TOP_MARGIN` below the upper end.
    """
    inside = labels > 0
    lower, upper = np.full(3, np.inf), np.full(3, -np.inf)
    for axis in range(3):
        # The outermost voxels along each axis of the map enclose the body, however the map is oriented.
        planes = np.nonzero(inside.any(axis=tuple({0, 1, 2} - {axis})))[0]
        lower[axis], upper[axis] = planes[0] - 0.5, planes[-1] + 0.5
    ends = np.stack([lower, upper])
    corners = np.array([ends[list(which), range(3)] for which in np.ndindex(2, 2, 2)])
    corners = corners @ affine[:3, :3].T + affine[:3, 3]
    low, high = corners.min(axis=0), corners.max(axis=0)
    field = np.array(shape) * voxel_size
    for axis, name in ((0, "wide"), (1, "deep")):
        if high[axis] - low[axis] > field[axis]:
            raise PETError(
                f"label map is {high[axis] - low[axis]:.0f} mm {name}, expected at most the {field[axis]:.0f} mm of the"
                " field of view"
            )
    first = np.append((low + high)[:2] / 2 - (np.array(shape[:2]) - 1) / 2 * voxel_size[:2], 0.0)
    first[2] = high[2] + TOP_MARGIN - (shape[2] - 0.5) * voxel_size[2]
    grid = np.diag([*voxel_size, 1.0])
    grid[:3, 3] = first
    return np.linalg.inv(affine) @ grid


def _nearest(labels: np.ndarray, transform: np.ndarray, shape: tuple[int, int, int], offset: np.ndarray) -> np.ndarray:
    """Labels at points that lie `offset` [voxels] from the centres of the phantom's voxels. Shape (X, Y, Z)."""
    matrix, origin = transform[:3, :3], transform[:3, 3] + transform[:3, :3] @ offset
    return ndimage.affine_transform(labels, matrix, origin, output_shape=shape, order=0, mode="constant", cval=0)


def _places(canvas: Canvas) -> dict[str, np.ndarray]:
    """Voxels that may be the centre of a lesion, by site: inside the organ, and well below the skin."""
    coarse, steps = coarse_voxels(canvas)
    labels = canvas.labels[coarse]
    spacing = np.array(canvas.voxel_size) * steps
    depth = ndimage.distance_transform_edt(labels > 0, sampling=spacing)
    labels = np.where((labels == SOFT_TISSUE) & (depth < _SKIN_DEPTH), 0, labels)
    return {name: np.argwhere(np.isin(labels, site.labels)) * steps for name, site in LESION_SITES.items()}


def _weight(canvas: Canvas, height: float | None) -> float:
    """Body weight [kg] of what lies between the vertex and the lower end of the map or of the field of view."""
    if height is None:
        raise PETError("label map without body weight, expected body_weight, or height if the map begins at the vertex")
    lowest = int(np.nonzero(canvas.labels.any(axis=(0, 1)))[0][0])
    return body_mass(canvas.attenuation[:, :, lowest:], canvas.voxel_size, height=height)


def phantom_from_labels(
    labels: np.ndarray,
    uptake: Mapping[int, str | float | LabelTissue],
    *,
    affine: np.ndarray,
    rng: np.random.Generator,
    shape: tuple[int, int, int],
    voxel_size: tuple[float, float, float],
    tracer: Tracer = FDG,
    n_lesions: int | None = None,
    body_weight: float | None = None,
    height: float | None = None,
    sex: str = "",
    arms: str = "",
    texture: float = _TEXTURE,
) -> Phantom:
    """Make a patient of a label map.

    The map is averaged onto the phantom's grid, the body centred along X and Y, its upper end just below
    the upper end of the field of view; what does not fit below is cut off.

    Parameters
    ----------
    labels
        Whole numbers, 0 for air. Shape (I, J, K), oriented as the affine says.
    uptake
        What each label stands for: an organ of the tracer's table, an SUVbw [g/mL], or a `LabelTissue`
        where that does not say what it attenuates like.
    affine
        Voxel of the map to RAS+ mm. Shape (4, 4).
    rng
        Source of randomness: of uptake, texture and lesions.
    shape
        Voxels of the phantom along X, Y, Z.
    voxel_size
        Of the phantom [mm].
    tracer
        What the patient is given.
    n_lesions
        How many lesions to place, 0 for the anatomy as it is, None to draw the number.
    body_weight
        [kg]; None to estimate it, for which `height` is needed and a map that begins at the vertex.
    height
        Standing height [m], None if not known.
    sex
        "F" or "M", empty if not known.
    arms
        "up" or "down", empty if not known.
    texture
        Standard deviation of the uptake within an organ, relative to its mean.

    Returns
    -------
    Phantom
        As from `make_phantom`, without `physique`. The uptake is that of the labels named after organs.

    Raises
    ------
    PETError
        If the map or its table is incomplete or out of range, the body is wider than the field of view, its
        weight can neither be taken nor estimated, or lesions are asked for and no site for one is labelled.
    """
    labels, affine = np.asarray(labels), np.asarray(affine, dtype=float)
    labels = _check_map(labels, affine, uptake)
    tissues = {value: _checked(value, entry, tracer) for value, entry in uptake.items()}
    if (body_weight is not None and body_weight <= 0) or (height is not None and height <= 0):
        raise PETError(f"body weight {body_weight} kg and height {height} m, expected more than 0")
    if n_lesions is not None and n_lesions < 0:
        raise PETError(f"n_lesions is {n_lesions}, expected 0 or more, or None to draw it")
    transform = _grid_to_map(labels, affine, shape, voxel_size)

    suv = draw_uptake(rng, tracer.organs)
    values = int(labels.max()) + 1
    activity_of, attenuation_of = np.zeros(values, dtype=np.float32), np.zeros(values, dtype=np.float32)
    organ_of = np.zeros(values, dtype=np.uint8)
    for value in np.unique(labels)[np.unique(labels) > 0]:
        tissue = tissues[int(value)]
        activity_of[value] = suv[tissue.uptake] if isinstance(tissue.uptake, str) else tissue.uptake
        attenuation_of[value] = tissue.attenuation_coefficient()
        organ_of[value] = tissue.organ_label()

    canvas = Canvas(shape, voxel_size, rng)
    # As many samples per voxel as the map has voxels in it: a voxel on a boundary is the mean of both sides.
    map_spacing = np.linalg.norm(affine[:3, :3], axis=0).min()
    n = int(np.clip(np.ceil(max(voxel_size) / map_spacing), 1, _MOST_SAMPLES))
    for sample in np.ndindex(n, n, n):
        here = _nearest(labels, transform, shape, (np.array(sample) + 0.5) / n - 0.5)
        canvas.activity += activity_of[here]
        canvas.attenuation += attenuation_of[here]
    canvas.activity /= np.float32(n**3)
    canvas.attenuation /= np.float32(n**3)
    here = _nearest(labels, transform, shape, np.zeros(3))
    canvas.labels = organ_of[here]
    if texture:
        field = np.clip(1 + np.float32(texture) * canvas.field(shape, correlation=_TEXTURE_LENGTH), 0.2, 3)
        # Every label keeps its mean.
        mean = np.nan_to_num(ndimage.mean(field, here, np.arange(values)), nan=1.0).astype(np.float32)
        canvas.activity *= field / mean[here]

    weight = _weight(canvas, height) if body_weight is None else float(body_weight)
    places = _places(canvas)
    if n_lesions and not any(len(places[site]) for site in tracer.lesion_sites):
        raise PETError(f"label map has no place for lesions, expected {_names(tracer.lesion_sites)}")
    lesion_labels, lesions = paint_lesions(
        canvas, draw_lesion_count(rng) if n_lesions is None else n_lesions, tracer=tracer, places=places
    )
    return Phantom(
        activity=canvas.activity,
        attenuation=canvas.attenuation,
        labels=canvas.labels,
        lesion_labels=lesion_labels,
        lesions=lesions,
        voxel_size=voxel_size,
        tracer=tracer,
        uptake={t.uptake: suv[t.uptake] for t in tissues.values() if isinstance(t.uptake, str)},
        body_weight=weight,
        sex=sex,
        height=height,
        arms=arms,
    )
