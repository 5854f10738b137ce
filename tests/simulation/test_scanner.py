"""Scanners: presets that fit, sensitivity against published ratios, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.pet import PETError
from pipeline.simulation import SCANNERS, Scanner, scanner_preset
from pipeline.simulation.scanner.scanner import axial_sensitivity, point_sensitivity
from pipeline.simulation.scanner.unfiltered import UNFILTERED

# The line source of NEMA NU 2 is 70 cm long.
LINE = np.linspace(-350, 350, 1401)


def line_sensitivity(**geometry):
    return point_sensitivity(LINE, **geometry).mean()


def test_point_sensitivity_is_the_solid_angle():
    # In the middle of a cylinder as long as wide, photons below 45 degrees to the transverse plane are seen.
    assert point_sensitivity(np.zeros(1), length=800, ring_diameter=800)[0] == pytest.approx(np.sin(np.pi / 4))
    assert point_sensitivity(np.array([400.0, -500.0]), length=800, ring_diameter=800).tolist() == [0, 0]


def test_a_short_scanner_has_a_triangle():
    z = np.linspace(-100, 100, 41)
    profile = point_sensitivity(z, length=200, ring_diameter=800)
    np.testing.assert_allclose(profile / profile.max(), 1 - np.abs(z) / 100, atol=0.015)


def test_ratios_of_published_sensitivities():
    quadra = {"length": 1060, "ring_diameter": 820}
    # Quadra: 176 and 83 cps/kBq with rings up to 322 and 85 crystals apart (Prenosil 2022).
    ratio = line_sensitivity(**quadra) / line_sensitivity(**quadra, largest_ring_difference=85 * 3.3)
    assert ratio == pytest.approx(176 / 83, rel=0.1)
    # Discovery MI: 13.7 and 7.5 cps/kBq with four and three rings (Hsu 2017).
    ratio = line_sensitivity(length=200, ring_diameter=744) / line_sensitivity(length=150, ring_diameter=744)
    assert ratio == pytest.approx(13.7 / 7.5, rel=0.05)


def test_every_profile_has_mean_one_and_is_symmetric():
    for scanner in SCANNERS.values():
        profile = axial_sensitivity(scanner)
        assert profile.mean() == pytest.approx(1.0, rel=1e-5)
        np.testing.assert_allclose(profile, profile[::-1], rtol=1e-4)


def test_sensitivity_falls_at_the_ends_of_a_row_of_beds():
    profile = axial_sensitivity(scanner_preset("generic"))
    assert profile[0] < 0.6 * profile[20:-20].min()


def test_beds_that_overlap_by_half_add_up_to_a_plateau():
    scanner = Scanner(name="half", matrix=(8, 8, 300), voxel_size=(5.0, 5.0, 2.0), bed_length=200.0, bed_overlap=0.5)
    middle = axial_sensitivity(scanner)[75:-75]
    assert middle.max() / middle.min() < 1.2


def test_a_long_scanner_sees_the_middle_of_the_body_evenly():
    quadra, uexplorer = (axial_sensitivity(scanner_preset(name)) for name in ("quadra", "uexplorer"))
    # Images of a Quadra are even over 80 cm of the 106 (van Sluis 2022, EJNMMI Phys 9:88).
    z = (np.arange(quadra.size) - (quadra.size - 1) / 2) * scanner_preset("quadra").voxel_size[2]
    assert np.ptp(quadra[np.abs(z) < 380]) < 1e-3
    assert quadra[0] < 0.5 * quadra.max()
    # The body lies in the middle of a scanner twice as long.
    assert np.ptp(uexplorer) < 0.1


def test_presets_are_those_asked_for_and_fit_their_purpose():
    siemens = {"biograph", "mct", "mct_400", "vision", "vision_440", "quadra"}
    others = {"discovery_st", "discovery_690", "dmi", "signa", "gemini", "vereos", "umi_550", "uexplorer"}
    generic = {"generic", "generic_tof", *(scanner.name for scanner in UNFILTERED)}
    assert set(SCANNERS) == siemens | others | generic
    for name, scanner in SCANNERS.items():
        assert scanner.name == name
        extent = np.array(scanner.matrix) * scanner.voxel_size
        # The phantoms are as wide as 480 mm and may be 950 mm long.
        assert 480 <= extent[0] <= 510
        assert 940 <= extent[2] <= 970


@pytest.mark.parametrize(
    ("name", "picoseconds", "scatter"),
    [
        ("quadra", 228, 0.36),
        ("vision", 213, 0.38),
        ("uexplorer", 505, 0.36),
        ("dmi", 375, 0.41),
        ("discovery_690", 544, 0.37),
        ("mct", 555, 0.335),
        ("vereos", 322, 0.308),
        ("umi_550", 372, 0.3665),
    ],
)
def test_presets_have_the_published_values(name, picoseconds, scatter):
    scanner = scanner_preset(name)
    # A difference of arrival times is half the way of light.
    assert scanner.tof_fwhm == pytest.approx(picoseconds * 1e-12 * 299_792_458 / 2 * 1e3, rel=1e-3)
    assert scanner.scatter_fraction == scatter


def test_time_of_flight_covers_the_field_of_view():
    for scanner in SCANNERS.values():
        if scanner.tof_fwhm is not None:
            covered = scanner.n_tof_bins * scanner.tof_bin_size
            assert covered >= scanner.matrix[0] * scanner.voxel_size[0] - scanner.tof_bin_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_subsets": 7}, "multiple of 7"),
        ({"voxel_size": (1e4, 1e4, 5.0)}, "expected sides of 0.1 to 100 mm"),
        ({"voxel_size": (1e-9, 1e-9, 1e-9)}, "expected sides of 0.1 to 100 mm"),
        ({"post_filter": -1.0}, "expected 0 to 100"),
        ({"matrix": (96, 95, 192)}, "X equal to Y"),
        ({"randoms_fraction": 1.0}, "expected 0 to 1"),
        ({"liver_cov": (0.0, 0.1)}, "above 0"),
        ({"bed_overlap": None}, "one bed position of 200 mm for an image of 960 mm"),
    ],
)
def test_impossible_scanners_are_refused(change, message):
    with pytest.raises(PETError, match=message):
        replace(scanner_preset("generic"), **change)


def test_unknown_preset_is_refused_by_name():
    with pytest.raises(PETError, match="generic_tof"):
        scanner_preset("advance")


def test_a_scanner_covers_a_part_of_the_body():
    scanner = scanner_preset("generic")
    assert scanner.covering(None) is scanner
    part = scanner.covering(402)
    assert part.matrix == (96, 96, 80)
    assert part.covering(402) == part
    assert scanner.covering(5000) == scanner
    # Both ends of the part are ends of a scan.
    assert axial_sensitivity(part)[[0, -1]].max() < 0.6 * axial_sensitivity(part).max()
    with pytest.raises(PETError, match=r"axial extent 7 mm, expected two slices of 5 mm at least"):
        scanner.covering(7)


def test_what_training_filters_is_unfiltered():
    for scanner in UNFILTERED:
        assert scanner.post_filter == scanner.axial_post_filter == 0
