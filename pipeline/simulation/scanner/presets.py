"""Scanners by name, with the source of each value.

Taken from publications are: time resolution, scatter fraction, axial field of view, ring diameter and, where
named, the reconstruction. In-plane PSF is near the published resolution at 1 to 10 cm. Not published for a
patient, and so customary values: the randoms fraction (.4), the liver's coefficient of variation at full dose
(.09 digital, .115 analog detectors; 5 to 14 % occur), and the axial PSF, which is set so that noise correlates
along Z as in real images (a model of planes has too little of it). Voxels are near those that the scanners give;
the field of view is that of the phantoms, about 490 mm by 960 mm.
"""

from __future__ import annotations

from pipeline.errors import PETError
from pipeline.simulation.scanner.ge import GE
from pipeline.simulation.scanner.scanner import MM_PER_PS, Scanner
from pipeline.simulation.scanner.siemens import SIEMENS
from pipeline.simulation.scanner.unfiltered import UNFILTERED

__all__ = ["GENERIC", "GENERIC_TOF", "SCANNERS", "UEXPLORER", "scanner_preset"]

GENERIC = Scanner(name="generic", matrix=(96, 96, 192), voxel_size=(5.0, 5.0, 5.0))
"""A present-day scanner without time of flight: body up to 960 mm at 5 mm. Customary values throughout."""

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

GEMINI = Scanner(
    name="gemini",
    matrix=(122, 122, 240),
    voxel_size=(4.0, 4.0, 4.0),
    n_angles=120,
    n_subsets=10,
    n_iterations=2,
    psf_in_plane=6.0,
    psf_axial=9.0,
    scatter_fraction=0.30,
    randoms_fraction=0.35,
    post_filter=7.0,
    post_filter_axial=5.0,
    liver_cov=(0.07, 0.085),
    bed_length=180.0,
    bed_overlap=0.5,
    ring_diameter=903.0,
    supersampling=1,
)
"""Like a Philips Gemini with LOR-RAMLA: few updates with wide basis functions. For quiet, smooth, blobby noise.

Voxels: the table of Eur Radiol 2022;32:7237. The blobs act as a wide PSF that the reconstruction knows; their width,
the updates and the filter are set so that noise correlates as in three patients' livers (.69 to .81, .79 to .89, .63
to .66 from voxel to voxel along X, Y, Z; coefficient of variation .073 to .078). Axial field 18 cm, ring of 90.3 cm,
scatter about 30 %: Surti 2007, J Nucl Med 48:471. Overlap: customary.
"""

VEREOS = Scanner(
    name="vereos",
    matrix=(122, 122, 240),
    voxel_size=(4.0, 4.0, 4.0),
    n_angles=120,
    n_subsets=15,
    n_iterations=3,
    psf_in_plane=4.1,
    psf_axial=6.0,
    tof_fwhm=322 * MM_PER_PS,
    scatter_fraction=0.308,
    post_filter=2.0,
    liver_cov=(0.07, 0.10),
    bed_length=164.0,
    bed_overlap=0.5,
    ring_diameter=764.0,
    supersampling=1,
)
"""Like a Philips Vereos.

322 ps, scatter 30.8 %, resolution 4 mm: Zhang 2018, EJNMMI Res 8. Axial field 16.4 cm, ring of 76.4 cm: the table in
Hsu 2017, J Nucl Med 58:1511. Voxels, 3 iterations, 15 subsets, PSF and time of flight: customary (2 mm occur, too).
"""

UMI_550 = Scanner(
    name="umi_550",
    matrix=(204, 204, 358),
    voxel_size=(2.4, 2.4, 2.68),
    n_angles=160,
    n_subsets=20,
    n_iterations=2,
    psf_in_plane=3.2,
    psf_axial=5.0,
    tof_fwhm=372 * MM_PER_PS,
    scatter_fraction=0.3665,
    post_filter=3.0,
    liver_cov=(0.08, 0.12),
    bed_length=240.0,
    bed_overlap=0.4,
    ring_diameter=760.0,
    supersampling=1,
)
"""Like a United Imaging uMI 550.

372 ps, scatter 36.65 %, resolution 2.9 to 3 mm: EJNMMI Phys 2020 (doi 10.1186/s40658-020-00315-w). Axial field 24 cm:
manufacturer. Voxels, ring, overlap, 2 iterations, 20 subsets, PSF and time of flight, 3 mm: customary.
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
    tof_fwhm=505 * MM_PER_PS,
    scatter_fraction=0.36,
    post_filter=3.0,
    liver_cov=(0.07, 0.11),
    bed_length=1940.0,
    bed_overlap=None,
    ring_diameter=786.0,
    largest_ring_difference=1210.0,
    supersampling=1,
)
"""Like a United Imaging uEXPLORER: the body at once, 505 ps.

Axial field 194 cm, 505 ps, scatter about 36 %, resolution about 3 mm, ring of 78.6 cm and lines up to 57 degrees
to the transverse plane: Spencer 2021, J Nucl Med 62:861 (doi 10.2967/jnumed.120.250597). The image lies in the
middle, so its sensitivity hardly varies. Reconstruction: customary.
"""

SCANNERS = {s.name: s for s in (GENERIC, GENERIC_TOF, *SIEMENS, *GE, GEMINI, VEREOS, UMI_550, UEXPLORER, *UNFILTERED)}
"""Every preset by its name: of products, and unfiltered ones to train with."""


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
