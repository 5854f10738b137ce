"""GE scanners. What is not said to come from a publication is customary, see `presets`."""

from __future__ import annotations

from pipeline.simulation.scanner.scanner import MM_PER_PS, Scanner

__all__ = ["DISCOVERY_MI", "DISCOVERY_ST", "GE"]

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
.65, .45 from voxel to voxel along X, Y, Z). Iterations: customary.
"""

DISCOVERY_690 = Scanner(
    name="discovery_690",
    matrix=(180, 180, 294),
    voxel_size=(2.73, 2.73, 3.27),
    n_angles=144,
    n_subsets=24,
    n_iterations=2,
    psf_in_plane=4.7,
    psf_axial=4.9,
    models_psf=False,
    tof_fwhm=544 * MM_PER_PS,
    scatter_fraction=0.37,
    post_filter=5.0,
    post_filter_axial=4.4,
    liver_cov=(0.10, 0.13),
    bed_length=157.0,
    bed_overlap=0.23,
    ring_diameter=810.0,
    supersampling=1,
)
"""Like a GE Discovery 690 or 710: time of flight without PSF, a sharper filter than GE's of old.

Axial field 15.7 cm, ring of 81 cm, 544 ps, scatter 37 %, resolution 4.7 mm: Bettinardi 2011, Med Phys 38:5394, and the
table in Hsu 2017, J Nucl Med 58:1511. 256 voxels on 70 cm; VPFX with 2 iterations, 24 subsets and 5 mm: customary.
Axial filter: as wide as weights of 1:4:1, GE's "standard". Overlap as of DISCOVERY_ST.
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
    tof_fwhm=375 * MM_PER_PS,
    scatter_fraction=0.41,
    liver_cov=(0.08, 0.11),
    bed_length=200.0,
    bed_overlap=0.25,
    ring_diameter=744.0,
    supersampling=1,
)
"""Like a GE Discovery MI of four rings.

Axial field 20 cm, ring of 744 mm, 375 ps, scatter 40.6 %, resolution 4.1 to 4.5 mm at 1 cm: Hsu 2017, J Nucl Med
58:1511. PSF and time of flight, 3 iterations, 16 subsets, 5 mm: a published protocol. Overlap: customary.
"""

SIGNA = Scanner(
    name="signa",
    matrix=(156, 156, 344),
    voxel_size=(3.125, 3.125, 2.78),
    n_angles=140,
    n_subsets=28,
    n_iterations=2,
    psf_in_plane=4.3,
    psf_axial=6.8,
    tof_fwhm=390 * MM_PER_PS,
    scatter_fraction=0.425,
    liver_cov=(0.08, 0.11),
    bed_length=250.0,
    bed_overlap=0.25,
    ring_diameter=624.0,
    supersampling=1,
)
"""Like a GE SIGNA PET/MR: a narrow ring, much scatter.

Axial field 25 cm, ring of 62.4 cm, 390 ps, scatter 42.5 %, resolution 4.5, 4.1 and 5.4 mm at 1 cm: the table in Hsu
2017, J Nucl Med 58:1511. 192 voxels on 60 cm, PSF and time of flight, 2 iterations, 28 subsets, 5 mm: customary.
The MR's coil absorbs nothing here. Overlap: customary.
"""

GE = (DISCOVERY_ST, DISCOVERY_690, DISCOVERY_MI, SIGNA)
"""Presets of GE scanners."""
