"""Figures at physical proportions, on stated scales, reproducible, and without matplotlib's global state."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread

from pipeline.report import difference_figure, histogram_figure, mip_figure, profile_figure

VOXEL_SIZE = (4.0, 4.0, 8.0)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    after = np.zeros((30, 20, 40), np.float32)
    after[5:25, 5:15] = 1.0
    after[10, 10, 30] = 50.0
    return after * rng.gamma(4, 0.25, after.shape).astype(np.float32), after


def pixels(png: bytes) -> np.ndarray:
    return imread(BytesIO(png), format="png")[..., :3]


def dark_runs(line: np.ndarray) -> list[int]:
    """Lengths of the runs of black pixels along a row or column."""
    dark = np.concatenate([[False], line.max(axis=-1) < 0.2, [False]])
    edges = np.flatnonzero(np.diff(dark))
    return [int(length) for length in edges[1::2] - edges[::2] if length > 40]


def test_panels_have_the_proportions_of_the_patient():
    black = np.full((30, 20, 40), 7.0)
    image = pixels(mip_figure(black, black, voxel_size=VOXEL_SIZE))
    above_the_bar = image[image.shape[0] // 7]
    widths = dark_runs(above_the_bar)
    (height,) = dark_runs(image[:, image.shape[1] // 10])
    # The patient is 120 mm wide, 80 mm deep, 320 mm tall.
    assert np.array(widths) / height == pytest.approx(np.array([120, 120, 80, 80]) / 320, abs=0.01)


def test_half_the_window_is_mid_grey():
    """An image of one SUV is drawn in the grey that its place in the window gives."""
    uniform = np.full((30, 20, 40), 3.5)
    image = pixels(mip_figure(uniform, uniform, voxel_size=VOXEL_SIZE, suv_window=(0.0, 7.0)))
    height, width, _ = image.shape
    assert image[height // 2, width // 10] == pytest.approx(0.5, abs=0.01)


def test_gain_is_red_and_loss_is_blue():
    before = np.ones((30, 20, 40))
    middle = []
    for factor in (1.1, 0.9):
        png = difference_figure(before, factor * before, voxel_size=VOXEL_SIZE, index=10)
        image = pixels(png)
        colored = image[np.ptp(image, axis=-1) > 0.1]
        middle.append(np.median(colored, axis=0))
    assert middle[0][0] > middle[0][2]
    assert middle[1][2] > middle[1][0]


def test_both_differences_have_one_scale():
    """After less before reaches the end of the scale, after less reference is half as much: its half-way colour."""
    before, after = np.ones((30, 20, 40)), np.full((30, 20, 40), 1.2)
    reference = np.full_like(before, 1.1)
    image = pixels(difference_figure(before, after, reference=reference, voxel_size=VOXEL_SIZE, index=9))
    row = image[image.shape[0] // 2]
    end, middle = ((np.abs(row - colormaps["RdBu_r"](place)[:3]).max(axis=-1) < 0.02).sum() for place in (1.0, 0.75))
    assert end > 100
    assert middle == pytest.approx(end, rel=0.15)


def test_the_same_arguments_give_the_same_bytes_also_in_threads(images):
    def draw(_: int) -> bytes:
        return mip_figure(*images, voxel_size=VOXEL_SIZE)

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(draw, range(2)))) == 1


def test_drawing_does_not_import_pyplot():
    code = (
        "import sys, numpy as np; from pipeline.report import mip_figure;"
        "mip_figure(np.ones((9, 9, 9)), np.ones((9, 9, 9)), voxel_size=(4, 4, 4));"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_views_apart_have_one_scale():
    """The sagittal panel of a figure of its own is as tall and wide in millimetres as the coronal one beside it."""
    black = np.full((30, 20, 40), 7.0)
    coronal, sagittal = (
        pixels(mip_figure(black, black, voxel_size=VOXEL_SIZE, views=[view])) for view in ("coronal", "sagittal")
    )
    assert coronal.shape == sagittal.shape
    widths = [dark_runs(image[image.shape[0] // 7]) for image in (coronal, sagittal)]
    assert np.array(widths[1]) / np.array(widths[0]) == pytest.approx(80 / 120, abs=0.02)


def test_a_profile_of_the_body_is_not_changed_by_the_air_around_it(images):
    """The same body in a wider field of view gives the same figure."""
    mask = images[1] > 0
    wider = [np.pad(image, ((4, 4), (6, 6), (0, 0)), constant_values=9.0) for image in images]
    around = np.pad(mask, ((4, 4), (6, 6), (0, 0)))
    narrow = profile_figure(*images, mask=mask, voxel_size=VOXEL_SIZE)
    assert profile_figure(*wider, mask=around, voxel_size=VOXEL_SIZE) == narrow
    assert histogram_figure(*wider, mask=around) == histogram_figure(*images, mask=mask)


def test_volumes_on_different_grids_are_refused(images):
    with pytest.raises(ValueError, match="one 3D shape"):
        mip_figure(images[0], images[1][1:], voxel_size=VOXEL_SIZE)
