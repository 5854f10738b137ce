"""Where the body and the lesions are: small tables that let crops be drawn without loading a volume."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.images import body_mask, label_touching
from pipeline.pet import PETSeries

__all__ = ["body_blocks", "lesion_voxels", "numbered_lesions", "random_body_voxel", "random_lesion_voxel"]

BODY_BLOCK = 8
"""Edge of the blocks in which voxels of the body are counted [voxels]."""
VOXELS_PER_LESION = 64
"""Voxels that stand for a lesion."""


def body_blocks(series: PETSeries) -> NDArray[np.uint16]:
    """Return the number of voxels of the body in each block of 8x8x8 voxels.

    The shape is (ceil(X / 8), ceil(Y / 8), ceil(Z / 8)). Where nothing looks like a body, every voxel counts.
    """
    mask = body_mask(series.suv, voxel_size=series.voxel_size)
    if not mask.any():
        mask = np.ones_like(mask)
    counts = mask.astype(np.uint16)
    for axis, n in enumerate(mask.shape):
        counts = np.add.reduceat(counts, range(0, n, BODY_BLOCK), axis=axis, dtype=np.uint16)
    return counts


def random_body_voxel(
    blocks: NDArray[np.uint16], shape: tuple[int, int, int], *, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw a voxel of a volume, from a block with a probability proportional to its voxels inside the body.

    `blocks` are what `body_blocks` counted, `shape` the voxels of the volume along X, Y, Z.
    """
    cumulative = np.cumsum(blocks, dtype=np.int64)
    block = np.searchsorted(cumulative, rng.integers(cumulative[-1]), side="right")
    low = np.array(np.unravel_index(block, blocks.shape)) * BODY_BLOCK
    return rng.integers(low, np.minimum(low + BODY_BLOCK, shape))


def numbered_lesions(labels: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Return lesions with numbers of their own: a mask of 0 and 1 is split into its connected (26) components."""
    if labels.max() > 1:
        return labels
    components, n_lesions = label_touching(labels)
    return components.astype(np.min_scalar_type(n_lesions))


def lesion_voxels(lesions: NDArray[np.unsignedinteger]) -> NDArray[np.uint16]:
    """Return voxels that stand for each lesion, evenly spread over those it has; of a small one some appear twice.

    Lesions are k in the k-th and 0 outside, shape (X, Y, Z). The indices along X, Y, Z have shape (n_lesions, 64, 3).
    """
    table = []
    for label, box in enumerate(ndimage.find_objects(lesions.astype(np.int32)), start=1):
        if box is not None:
            inside = np.argwhere(lesions[box] == label) + [s.start for s in box]
            table.append(inside[np.linspace(0, len(inside) - 1, VOXELS_PER_LESION).round().astype(int)])
    return np.array(table, dtype=np.uint16).reshape(-1, VOXELS_PER_LESION, 3)


def random_lesion_voxel(voxels: NDArray[np.uint16], *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a voxel of a lesion; each lesion is as likely as any other, whatever its size."""
    lesion = voxels[rng.integers(len(voxels))]
    return lesion[rng.integers(len(lesion))].astype(np.int64)
