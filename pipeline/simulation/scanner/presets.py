"""Scanners by name, with the source of each value.

Taken from publications are: time resolution, scatter fraction, axial field of view, ring diameter and, where
named, the reconstruction. In-plane PSF is near the published resolution at 1 to 10 cm. Not published for a
patient, and so customary values: the randoms fraction (.4), the liver's coefficient of variation at full dose
(.09 digital, .115 analog detectors; 5 to 14 % occur), and the axial PSF, which is set so that noise correlates
along Z as in real images (a model of planes has too little of it). Voxels are near those that the scanners give;
the field of view is that of the phantoms, about 490 mm by 960 mm.

The CPU time is that of one subject with six dose reduction factors on one core of a busy server: of GENERIC_TOF and
MCT as a whole, of the others from its parts. ``benchmarks/simulation.py`` measures each.
"""

from __future__ import annotations

from pipeline.errors import PETError
from pipeline.simulation.scanner.scanner import Scanner
from pipeline.simulation.scanner.unfiltered import UNFILTERED

__all__ = [
    "DISCOVERY_MI",
    "DISCOVERY_ST",
    "GENERIC",
    "GENERIC_TOF",
    "MCT",
    "QUADRA",
    "SCANNERS",
    "UEXPLORER",
    "scanner_preset",
]

_MM_PER_PS = 0.1499
"""Half the way of light in a picosecond: what a difference of arrival times is in space [mm/ps]."""

GENERIC = Scanner(name="generic", matrix=(96, 96, 192), voxel_size=(5.0, 5.0, 5.0))
"""A present-day scanner without time of flight: body up to 960 mm at 5 mm. Half a CPU-min."""

GENERIC_TOF = Scanner(
    name="generic_tof",
    matrix=(96, 96, 192),
    voxel_size=(5.0, 5.0, 5.0),
    n_subsets=10,
    n_iterations=3,
    psf_in_plane=4.5,
    tof_fwhm=60.0,
)
"""The same with time of flight of 400 ps. 41 CPU-s, 1.1 GiB."""

QUADRA = Scanner(
    name="quadra",
    matrix=(148, 148, 320),
    voxel_size=(3.3, 3.3, 3.0),
    n_angles=140,
    n_subsets=5,
    n_iterations=4,
    psf_in_plane=3.8,
    psf_axial=6.0,
    tof_fwhm=228 * _MM_PER_PS,
    scatter_fraction=0.36,
    post_filter=2.0,
    liver_cov=(0.07, 0.11),
    bed_length=1060.0,
    bed_overlap=None,
    ring_diameter=820.0,
    largest_ring_difference=280.0,
)
"""Like a Siemens Biograph Vision Quadra: the body at once, 228 ps.

Axial field 106 cm, 228 ps, scatter 36 %, resolution 3.3 to 3.8 mm: Prenosil 2022, J Nucl Med 63:476
(doi 10.2967/jnumed.121.261972), at the ring difference of 85 crystals of about 3.3 mm that images are
reconstructed with. Vision's detectors on a ring of 82 cm: manufacturer. 4 iterations, 5 subsets, 2 mm: customary.
4 CPU-min, 4 GiB.
"""

UEXPLORER = Scanner(
    name="uexplorer",
    matrix=(156, 156, 332),
    voxel_size=(3.125, 3.125, 2.886),
    n_angles=140,
    n_subsets=20,
    n_iterations=3,
    psf_in_plane=3.5,
    psf_axial=6.0,
    tof_fwhm=505 * _MM_PER_PS,
    scatter_fraction=0.36,
    post_filter=3.0,
    liver_cov=(0.07, 0.11),
    bed_length=1940.0,
    bed_overlap=None,
    ring_diameter=786.0,
    largest_ring_difference=1210.0,
)
"""Like a United Imaging uEXPLORER: the body at once, 505 ps.

Axial field 194 cm, 505 ps, scatter about 36 %, resolution about 3 mm, ring of 78.6 cm and lines up to 57 degrees
to the transverse plane: Spencer 2021, J Nucl Med 62:861 (doi 10.2967/jnumed.120.250597). The image lies in the
middle, so its sensitivity hardly varies. Reconstruction: customary. 4 CPU-min.
"""

DISCOVERY_MI = Scanner(
    name="dmi",
    matrix=(132, 132, 344),
    voxel_size=(3.65, 3.65, 2.79),
    n_angles=128,
    n_subsets=16,
    n_iterations=3,
    psf_in_plane=4.4,
    psf_axial=6.5,
    tof_fwhm=375 * _MM_PER_PS,
    scatter_fraction=0.41,
    liver_cov=(0.08, 0.11),
    bed_length=200.0,
    bed_overlap=0.25,
    ring_diameter=744.0,
)
"""Like a GE Discovery MI of four rings.

Axial field 20 cm, ring of 744 mm, 375 ps, scatter 40.6 %, resolution 4.1 to 4.5 mm at 1 cm: Hsu 2017, J Nucl Med
58:1511. PSF and time of flight, 3 iterations, 16 subsets, 5 mm: a published protocol. Overlap: customary. 3 CPU-min.
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
    tof_fwhm=555 * _MM_PER_PS,
    scatter_fraction=0.335,
    liver_cov=(0.10, 0.13),
    bed_length=221.0,
    bed_overlap=0.43,
    ring_diameter=842.0,
)
"""Like a Siemens Biograph mCT Flow.

Axial field 22.1 cm, ring of 842 mm, scatter 33.5 %, resolution 4.3 to 5.2 mm: Rausch 2015, EJNMMI Phys 2:26, and
the table in Hsu 2017, J Nucl Med 58:1511 (555 ps). 3 iterations, 21 subsets with PSF and time of flight: customary.
2.5 CPU-min, 2.2 GiB.
"""

DISCOVERY_ST = Scanner(
    name="discovery_st",
    matrix=(104, 104, 288),
    voxel_size=(4.6875, 4.6875, 3.27),
    n_angles=144,
    n_subsets=12,
    n_iterations=4,
    psf_in_plane=5.5,
    psf_axial=6.0,
    models_psf=False,
    scatter_fraction=0.45,
    post_filter=6.7,
    post_filter_axial=4.7,
    liver_cov=(0.10, 0.14),
    bed_length=157.0,
    bed_overlap=0.23,
    ring_diameter=886.0,
)
"""Like a GE Discovery ST in 3D: no time of flight, no PSF in the reconstruction, about 8 mm in the image.

Axial field 157 mm, ring of 886 mm, scatter about 45 % in 3D, resolution about 6 mm: Mawlawi 2004, J Nucl Med
45:1734. Voxels and overlap as in a patient's scan; filters, so that noise correlates as in that patient's liver (.50,
.65, .45 from voxel to voxel along X, Y, Z). Iterations: customary. 1 CPU-min.
"""

_PRODUCTS = (GENERIC, GENERIC_TOF, QUADRA, UEXPLORER, DISCOVERY_MI, MCT, DISCOVERY_ST)

SCANNERS = {s.name: s for s in (*_PRODUCTS, *UNFILTERED)}
"""Every preset by its name."""


def scanner_preset(name: str) -> Scanner:
    """Return the scanner of that name, one of `SCANNERS`.

    Raises
    ------
    PETError
        If there is none.
    """
    if name not in SCANNERS:
        raise PETError(f"no scanner preset is called {name!r}, expected one of {', '.join(SCANNERS)}")
    return SCANNERS[name]
