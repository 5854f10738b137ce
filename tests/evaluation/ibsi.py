"""The digital phantom of the Image Biomarker Standardisation Initiative, written out."""

import numpy as np

__all__ = ["IBSI_IMAGE", "IBSI_MASK", "IBSI_VOXEL_SIZE"]

# IBSI 1 digital phantom, 5 x 4 x 4 voxels of 2 mm: planes along Z, rows along Y, columns along X. Licence CC BY 4.0,
# design by A. Zwanenburg; Image Biomarker Standardisation Initiative, doi 10.1148/radiol.2020191145.
_PLANES = (
    ("14411", "14611", "41641", "44641"),
    ("14411", "11611", "11311", "44611"),
    ("14411", "11111", "11911", "11611"),
    ("14411", "11111", "11111", "11611"),
)
_OUTSIDE = ((0, 2, 1), (2, 2, 2), (3, 0, 2), (3, 0, 3), (4, 0, 2), (4, 0, 3))

IBSI_IMAGE = np.array([[[int(v) for v in row] for row in plane] for plane in _PLANES], dtype=np.float32).T
IBSI_MASK = np.ones(IBSI_IMAGE.shape, dtype=bool)
IBSI_MASK[tuple(np.transpose(_OUTSIDE))] = False
IBSI_VOXEL_SIZE = (2.0, 2.0, 2.0)
