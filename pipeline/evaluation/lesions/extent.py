"""Extent of lesions: the volume within their surface, and how far apart they lie."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, KDTree
from scipy.spatial.distance import pdist

from pipeline.evaluation.quantification import centroid, each_region

__all__ = ["largest_centroid_distance", "largest_distance", "lesion_distances", "mesh_volume"]

_FEW = 100  # points whose distances are taken without their hull


def mesh_volume(mask: NDArray[np.bool_], *, voxel_size: Sequence[float]) -> float:
    """Return the volume within the surface of a region [mL]: IBSI's mesh volume (RNU0), by marching cubes at 0.5.

    The surface cuts the corners of the voxels, so that it holds less than their number says, the more so in small
    regions. `mask` has the shape (X, Y, Z); `voxel_size` is in mm. It is 0 for an empty mask.
    """
    if not mask.any():
        return 0.0
    # Imported here, for most users of this package need no mesh and the import takes 0.2 s.
    from skimage.measure import marching_cubes

    vertices, faces, *_ = marching_cubes(
        np.pad(mask, 1).astype(np.float32), level=0.5, spacing=tuple(float(s) for s in voxel_size)
    )
    a, b, c = np.moveaxis(vertices[faces].astype(np.float64), 1, 0)
    # Tetrahedra from the origin, with their signs.
    return float(abs((a * np.cross(b, c)).sum()) / 6 / 1000)


def lesion_distances(labels: NDArray[np.integer], *, voxel_size: Sequence[float]) -> pd.DataFrame:
    """Return the distances between every two regions [mm], one row a pair.

    `labels`, 0 outside, has the shape (X, Y, Z); `voxel_size` is in mm. The columns: region_a and region_b;
    centroid_mm, between the centres of their voxels; surface_mm, between their two nearest voxels, centre to centre.
    """
    sides = np.asarray(voxel_size, dtype=np.float64)
    scale = np.diag([*sides, 1.0])
    centers, borders = {}, {}
    for number, box, mask in each_region(labels):
        corner = [axis.start for axis in box]
        centers[number] = centroid(mask, box, scale)
        border = mask & ~ndimage.binary_erosion(mask)
        borders[number] = KDTree((np.argwhere(border) + corner) * sides)
    rows = [
        (a, b, np.linalg.norm(centers[a] - centers[b]), borders[a].query(borders[b].data)[0].min())
        for a, b in combinations(centers, 2)
    ]
    return pd.DataFrame(rows, columns=["region_a", "region_b", "centroid_mm", "surface_mm"])


def largest_centroid_distance(labels: NDArray[np.integer], *, voxel_size: Sequence[float]) -> float:
    """Return the distance between the centres of the two regions that lie farthest apart [mm].

    It is 0 for one region and NaN for none. `labels` has the shape (X, Y, Z), 0 outside; `voxel_size` is in mm.
    """
    scale = np.diag([*voxel_size, 1.0])
    centers = [centroid(mask, box, scale) for _, box, mask in each_region(labels)]
    return float(pdist(centers).max(initial=0.0)) if centers else float("nan")


def largest_distance(labels: NDArray[np.integer], *, voxel_size: Sequence[float]) -> float:
    """Return the distance between the two voxels of regions that lie farthest apart [mm], in one region or two.

    It is NaN without regions. `labels` has the shape (X, Y, Z), 0 outside; `voxel_size` is in mm.
    """
    points = np.argwhere(labels > 0) * np.asarray(voxel_size, dtype=np.float64)
    if len(points) == 0:
        return float("nan")
    if len(points) > _FEW:
        points = points[ConvexHull(points, qhull_options="QJ").vertices]  # joggled: the voxels may lie in one plane
    return float(pdist(points).max(initial=0.0))
