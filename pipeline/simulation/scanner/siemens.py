"""Siemens scanners. What is not said to come from a publication is customary, see `presets`."""

from __future__ import annotations

from dataclasses import replace

from pipeline.simulation.scanner.scanner import MM_PER_PS, Scanner

__all__ = ["MCT", "QUADRA", "SIEMENS"]

BIOGRAPH = Scanner(
    name="biograph",
    matrix=(144, 144, 473),
    voxel_size=(3.39, 3.39, 2.03),
    n_angles=168,
    n_subsets=8,
    n_iterations=4,
    psf_in_plane=5.5,
    psf_axial=5.5,
    models_psf=False,
    scatter_fraction=0.32,
    post_filter=7.0,
    liver_cov=(0.12, 0.16),
    bed_length=216.0,
    bed_overlap=0.25,
    ring_diameter=842.0,
    supersampling=1,
)
"""Like a Siemens Biograph with OSEM2D: no time of flight, no PSF, thin planes, a 7 mm filter. For smooth fine grids.

Voxels, filter and the liver's noise (.146, which correlates from voxel to voxel by .77, .81, .88 along X, Y, Z) as in a
patient's scan. Axial field, ring and scatter: Jakoby 2009, IEEE Trans Nucl Sci 56:633 (with TrueV). 4 iterations, 8
subsets: customary for OSEM2D.
"""

MCT = Scanner(
    name="mct",
    matrix=(120, 120, 320),
    voxel_size=(4.07, 4.07, 3.0),
    n_angles=126,
    n_subsets=21,
    n_iterations=3,
    psf_in_plane=4.8,
    psf_axial=7.0,
    tof_fwhm=555 * MM_PER_PS,
    scatter_fraction=0.335,
    liver_cov=(0.10, 0.13),
    bed_length=221.0,
    bed_overlap=0.43,
    ring_diameter=842.0,
)
"""Like a Siemens Biograph mCT Flow.

Axial field 22.1 cm, ring of 842 mm, scatter 33.5 %, resolution 4.3 to 5.2 mm: Rausch 2015, EJNMMI Phys 2:26, and
the table in Hsu 2017, J Nucl Med 58:1511 (555 ps). 3 iterations, 21 subsets with PSF and time of flight: customary.
"""

MCT_400 = replace(
    MCT,
    name="mct_400",
    matrix=(240, 240, 320),
    voxel_size=(2.04, 2.04, 3.0),
    n_angles=168,
    n_iterations=2,
    post_filter=2.0,
    liver_cov=(0.12, 0.16),
    supersampling=1,
)
"""The same with a matrix of 400 x 400: small voxels in plane, hardly a filter. For sharp and noisy fine grids.

Voxels, PSF and time of flight, 2 iterations, 21 subsets, 2 mm: the protocol of the autoPET data, Gatidis 2022, Sci Data
9:601.
"""

VISION = Scanner(
    name="vision",
    matrix=(148, 148, 320),
    voxel_size=(3.3, 3.3, 3.0),
    n_angles=140,
    n_subsets=5,
    n_iterations=4,
    psf_in_plane=3.7,
    psf_axial=5.5,
    tof_fwhm=213 * MM_PER_PS,
    scatter_fraction=0.38,
    post_filter=4.0,
    liver_cov=(0.08, 0.11),
    bed_length=263.0,
    bed_overlap=0.49,
    ring_diameter=820.0,
    supersampling=1,
)
"""Like a Siemens Biograph Vision 600.

213 ps: EJNMMI Phys 2020;7:55 (Vision 450, the same detectors). Axial field 26.3 cm, resolution 3.5 to 3.7 mm, scatter
about 38 %: van Sluis 2019, J Nucl Med 60:1031. Voxels, 4 iterations, 5 subsets, PSF and time of flight, 4 mm:
a published protocol (bio-protocol r8756285). Ring as of QUADRA; overlap: customary.
"""

VISION_440 = replace(
    VISION,
    name="vision_440",
    matrix=(298, 298, 582),
    voxel_size=(1.65, 1.65, 1.65),
    n_angles=200,
    post_filter=2.0,
    liver_cov=(0.10, 0.13),
)
"""The same with its matrix of 440 x 440. For the finest voxels that are in use; minutes per 100 mm on one core.

Matrix: EJNMMI Phys 2020;7:55; its voxels: the manufacturer's zoom 1. Filter: customary.
"""

QUADRA = Scanner(
    name="quadra",
    matrix=(148, 148, 320),
    voxel_size=(3.3, 3.3, 3.0),
    n_angles=140,
    n_subsets=5,
    n_iterations=4,
    psf_in_plane=3.8,
    psf_axial=6.0,
    tof_fwhm=228 * MM_PER_PS,
    scatter_fraction=0.36,
    post_filter=2.0,
    liver_cov=(0.07, 0.11),
    bed_length=1060.0,
    bed_overlap=None,
    ring_diameter=820.0,
    largest_ring_difference=280.0,
    supersampling=1,
)
"""Like a Siemens Biograph Vision Quadra: the body at once, 228 ps.

Axial field 106 cm, 228 ps, scatter 36 %, resolution 3.3 to 3.8 mm: Prenosil 2022, J Nucl Med 63:476
(doi 10.2967/jnumed.121.261972), at the ring difference of 85 crystals of about 3.3 mm that images are
reconstructed with. Vision's detectors on a ring of 82 cm: manufacturer. 4 iterations, 5 subsets, 2 mm: customary.
"""

SIEMENS = (BIOGRAPH, MCT, MCT_400, VISION, VISION_440, QUADRA)
"""Presets of Siemens scanners."""
