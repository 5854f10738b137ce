"""Scanners small enough to test with."""

from pipeline.simulation import Scanner

FLAT_SCANNER = Scanner(name="flat", matrix=(16, 16, 32), voxel_size=(30.0, 30.0, 30.0), n_angles=16, n_subsets=4)
"""The whole body at 30 mm: a subject in a fifth of a second."""

COARSE_SCANNER = Scanner(name="coarse", matrix=(32, 32, 64), voxel_size=(15.0, 15.0, 15.0), n_angles=40, n_subsets=4)
"""The whole body at 15 mm, where organs can be told apart."""

SLAB_SCANNER = Scanner(
    name="small",
    matrix=(40, 40, 12),
    voxel_size=(8.0, 8.0, 8.0),
    n_angles=48,
    n_subsets=4,
    n_iterations=3,
    post_filter=8.0,
    bed_length=None,
    supersampling=1,
)
"""Twelve planes through a cylinder, each with the same sensitivity."""
