"""Three planes of a region: where they lie, which side is which, one grey scale, outline and difference."""

from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from scipy import ndimage

from pipeline.images import Regions
from pipeline.report import region_figure, region_figures
from pipeline.report.scan.region_figures import region_window
from pipeline.report.scan.region_profile import draw_profile

SIZE = (4.0, 4.0, 4.0)
SHAPE = (40, 40, 40)


def pixels(png: bytes) -> np.ndarray:
    return imread(BytesIO(png), format="png")[..., :3]


def blob(value: float = 6.0) -> tuple[np.ndarray, np.ndarray]:
    """An SUV image of zero with one cube, whose centre is a trace hotter, and its labels."""
    labels = np.zeros(SHAPE, np.int32)
    labels[18:23, 18:23, 18:23] = 1
    suv = np.where(labels, value, 0.0)
    suv[20, 20, 20] += 0.01
    return suv, labels


def figure_of(
    images: dict[str, np.ndarray], labels: np.ndarray, window: tuple[float, float] = (0.0, 7.0)
) -> np.ndarray:
    box = ndimage.find_objects(labels)[0]
    return pixels(region_figure(images, labels, region=1, box=box, voxel_size=SIZE, suv_window=window))


def panels(image: np.ndarray, n_columns: int) -> list[list[np.ndarray]]:
    """The squares of the figure, row by row: 3.7 in wide at 160 dpi, 0.2 in left, 0.22 in above, 0.05 in between."""
    inch = (3.7 - 0.2 - 0.05 * n_columns) / n_columns
    edges = [
        [(round(160 * (start + k * (inch + 0.05))), round(160 * (start + k * (inch + 0.05) + inch))) for k in range(n)]
        for start, n in ((0.22, 3), (0.2, n_columns))
    ]
    return [[image[a:b, c:d] for c, d in edges[1]] for a, b in edges[0]]


def test_images_share_their_scale_and_the_difference_has_its_own():
    suv, labels = blob()
    before, after, difference = panels(figure_of({"Before": suv, "After": suv}, labels), 3)[0]
    inside = np.s_[2 * len(before) // 5 : 3 * len(before) // 5, 2 * len(before) // 5 : 3 * len(before) // 5]
    assert before[inside].mean() == pytest.approx(1 - 6 / 7, abs=0.02)
    assert after[inside].mean() == pytest.approx(before[inside].mean(), abs=0.01)
    assert difference[inside].mean() > 0.9  # white: no difference


def test_a_loss_is_blue_and_a_reference_is_drawn():
    suv, labels = blob()
    row = panels(figure_of({"Before": suv, "After": 0.8 * suv, "Reference": 0 * suv}, labels), 4)[0]
    half = len(row[0]) // 2
    assert row[2][half, half].mean() > 0.9
    assert row[3][half, half, 2] > row[3][half, half, 0]


@pytest.mark.parametrize(
    ("step", "row", "place"),
    [
        ((6, 0, 0), 0, (0.5, 0.2)),  # the patient's right is on the left of the axial
        ((6, 0, 0), 1, (0.5, 0.2)),  # and of the coronal plane
        ((0, 6, 0), 0, (0.2, 0.5)),  # the front is up in the axial plane
        ((0, 6, 0), 2, (0.5, 0.2)),  # and left in the sagittal
        ((0, 0, 6), 1, (0.2, 0.5)),  # the head is up in the coronal
        ((0, 0, 6), 2, (0.2, 0.5)),  # and the sagittal plane
    ],
)
def test_planes_are_in_radiological_convention(step, row, place):
    """A spot 24 mm from the centre, in a panel of 80 mm."""
    suv, labels = blob(6.0)
    labels[labels > 0] = 0
    labels[20, 20, 20] = 1
    suv[:] = 0
    suv[20, 20, 20] = 3
    spot = tuple(20 + s for s in step)
    suv[spot] = 7
    panel = panels(figure_of({"Before": suv, "After": suv}, labels), 3)[row][0]
    dark = 1 - panel.mean(axis=-1)
    up, across = (round(fraction * len(panel)) for fraction in place)
    assert dark[up, across] > 0.6  # the region is 3 / 7, and a voxel is drawn with its neighbours


def test_planes_go_through_what_is_hottest_in_both_images():
    """Noise in one image does not decide, and a hotter place outside of the region neither."""
    suv, labels = blob(4.0)
    before, after = suv.copy(), suv.copy()
    before[19, 19, 19] = 5.0  # noise
    before[21, 21, 21] = after[21, 21, 21] = 6.5
    before[30, 20, 20] = 50.0
    panel = panels(figure_of({"Before": before, "After": after}, labels), 3)[0][1]
    half = len(panel) // 2
    assert panel[half, half].mean() == pytest.approx(1 - 6.5 / 7, abs=0.03)


def test_a_region_at_the_edge_of_the_scan_is_drawn_with_the_outside_in_plain_grey():
    labels = np.zeros(SHAPE, np.int32)
    labels[:2, 20, :2] = 1
    image = figure_of({"Before": labels * 5.0, "After": labels * 5.0}, labels)
    below = panels(image, 3)[1][1][-10, 5]
    assert below == pytest.approx(np.array([0xF1, 0xF3, 0xF6]) / 255, abs=0.01)


@pytest.mark.parametrize(("peak", "end"), [(0.5, 7), (7.0, 7), (7.1, 10), (23, 30), (500, 100)])
def test_the_window_holds_the_peak(peak, end):
    assert region_window(peak) == (0, end)


def test_the_twenty_hottest_are_drawn_hottest_first(monkeypatch):
    monkeypatch.setattr("pipeline.report.scan.region_figures.region_figure", lambda *_, region, **__: b"%d" % region)
    labels = np.zeros((60, 9, 9), np.int32)
    for number in range(1, 24):
        labels[2 * number, 4, 4] = number
    images = dict.fromkeys(("Before", "After"), labels * 1.0)
    lesions = pd.DataFrame(
        {"region": range(1, 24), "suv_peak_before": np.arange(1.0, 24), "suv_peak_after": np.arange(1.0, 24)}
    )
    drawn = region_figures(images, Regions(labels, "given"), lesions, voxel_size=SIZE)
    assert list(drawn.items()) == [(number, b"%d" % number) for number in range(23, 3, -1)]


def test_one_image_is_refused():
    suv, labels = blob()
    with pytest.raises(ValueError, match="two images"):
        figure_of({"Before": suv}, labels)


def test_the_profile_is_the_suv_along_the_line_in_every_image():
    """The patient's right is on the left, the region is shaded, and distances are in mm from the centre."""
    suv, labels = blob()
    suv[25, 20, 20] = 3.0
    figure = Figure()
    axes = figure.add_subplot()
    draw_profile(axes, {"Before": suv, "After": 2 * suv}, labels == 1, (20, 20, 20), size=4.0, side=80.0)
    before, after = (line.get_xydata() for line in axes.get_lines())
    assert dict(before)[-20.0] == 3.0
    assert dict(before)[0.0] == 6.01
    np.testing.assert_array_equal(after[:, 1], 2 * before[:, 1])
    (shaded,) = axes.patches
    assert sorted(shaded.get_extents().transformed(axes.transData.inverted()).intervalx) == pytest.approx([-10, 10])
    assert axes.get_xlim() == (-40, 40)
    assert "[mm]" in axes.get_xlabel()
    assert axes.get_ylabel() == "SUVbw [g/mL]"
