"""Reconstructions to train with: unfiltered, so that training can filter and resample them to any texture and grid.

They stand for families, not for products. Each value lies within what the products of
`pipeline.simulation.scanner.presets` have (sources there); together they span what decides about noise: time of flight
or none, a reconstruction that knows the resolution or not, few and many updates, analog and digital detectors, little
and much correlation along Z, short beds and one long one. None is a product, so that every product tests what training
never saw.

The liver's coefficient of variation is that of the unfiltered image. A Gaussian of 5 mm leaves .46, .71, .84, .60,
.50, .51, .54 of it (in the order below, one patient each), so that a full dose filtered like that has .04 to .15.
"""

from __future__ import annotations

from dataclasses import replace

from pipeline.simulation.scanner.scanner import MM_PER_PS, Scanner

__all__ = ["UNFILTERED"]


_FAMILIES = (
    # Planes that know nothing of each other, and short beds with noisy ends.
    Scanner(
        name="unfiltered_analog",
        matrix=(122, 122, 288),
        voxel_size=(4.0, 4.0, 3.3),
        n_subsets=12,
        n_iterations=4,
        psf_in_plane=6.0,
        psf_axial=6.0,
        models_psf=False,
        scatter_fraction=0.45,
        randoms_fraction=0.45,
        bed_length=155.0,
        bed_overlap=0.25,
        ring_diameter=880.0,
        liver_cov=(0.08, 0.32),
    ),
    Scanner(
        name="unfiltered_analog_psf",
        matrix=(122, 122, 240),
        voxel_size=(4.0, 4.0, 4.0),
        n_angles=120,
        n_subsets=20,
        n_iterations=3,
        psf_in_plane=5.5,
        psf_axial=7.0,
        scatter_fraction=0.38,
        bed_length=216.0,
        bed_overlap=0.3,
        ring_diameter=842.0,
        liver_cov=(0.05, 0.21),
    ),
    # Smooth noise in large blobs, as of few updates with wide basis functions.
    Scanner(
        name="unfiltered_smooth",
        matrix=(122, 122, 240),
        voxel_size=(4.0, 4.0, 4.0),
        n_subsets=10,
        n_iterations=2,
        psf_in_plane=8.0,
        psf_axial=9.0,
        scatter_fraction=0.30,
        randoms_fraction=0.30,
        bed_length=180.0,
        bed_overlap=0.5,
        ring_diameter=903.0,
        liver_cov=(0.04, 0.18),
    ),
    Scanner(
        name="unfiltered_tof_550",
        matrix=(122, 122, 320),
        voxel_size=(4.0, 4.0, 3.0),
        n_subsets=20,
        n_iterations=3,
        psf_in_plane=4.8,
        psf_axial=6.0,
        tof_fwhm=550 * MM_PER_PS,
        scatter_fraction=0.335,
        bed_length=221.0,
        bed_overlap=0.43,
        ring_diameter=842.0,
        liver_cov=(0.06, 0.25),
    ),
    Scanner(
        name="unfiltered_tof_400",
        matrix=(122, 122, 240),
        voxel_size=(4.0, 4.0, 4.0),
        n_subsets=10,
        n_iterations=4,
        psf_in_plane=4.5,
        psf_axial=5.0,
        models_psf=False,
        tof_fwhm=400 * MM_PER_PS,
        scatter_fraction=0.40,
        bed_length=200.0,
        bed_overlap=0.25,
        ring_diameter=744.0,
        liver_cov=(0.07, 0.30),
    ),
    # Few updates of sharp detectors.
    Scanner(
        name="unfiltered_digital",
        matrix=(148, 148, 290),
        voxel_size=(3.3, 3.3, 3.3),
        n_subsets=5,
        n_iterations=4,
        psf_in_plane=3.7,
        psf_axial=5.0,
        tof_fwhm=214 * MM_PER_PS,
        scatter_fraction=0.38,
        bed_length=263.0,
        bed_overlap=0.4,
        ring_diameter=820.0,
        liver_cov=(0.07, 0.28),
    ),
    # Many updates, seen from one position, with strong correlation along Z.
    Scanner(
        name="unfiltered_long",
        matrix=(140, 140, 274),
        voxel_size=(3.5, 3.5, 3.5),
        n_subsets=10,
        n_iterations=6,
        psf_in_plane=4.0,
        psf_axial=8.0,
        tof_fwhm=300 * MM_PER_PS,
        scatter_fraction=0.36,
        bed_length=1060.0,
        bed_overlap=None,
        ring_diameter=820.0,
        largest_ring_difference=280.0,
        liver_cov=(0.06, 0.26),
    ),
)
UNFILTERED = tuple(replace(s, post_filter=0.0, post_filter_axial=0.0, supersampling=1) for s in _FAMILIES)
"""Unfiltered reconstructions, on voxels of 3.3 to 4 mm."""
