"""The page of inserted noise."""

import numpy as np
import pytest

from pipeline.pet import PETError, PETHeader, PETSeries
from pipeline.report.noise_page import liver_noise_figure, liver_noise_table, write_noise_page

SHAPE = (32, 30, 40)


def series_of(sd):
    rng = np.random.default_rng(round(1000 * sd))
    suv = np.zeros(SHAPE, dtype=np.float32)
    suv[6:-6, 6:-6] = 2 * (1 + sd * rng.standard_normal((20, 18, 40)))
    return PETSeries(
        suv=suv, affine=np.diag([5.0, 5.0, 5.0, 1.0]), header=PETHeader(units="GML"), provenance=("Made <up>.",)
    )


@pytest.fixture
def region():
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:24, 8:22, 5:35] = True
    return mask


def test_noise_that_follows_the_square_root_has_the_ratio_one(region):
    low = {4.0: series_of(0.2), 9.0: series_of(0.3)}
    table = liver_noise_table(series_of(0.1), low, region=region, noise_cov=0.1)
    assert list(table["dose_reduction_factor"]) == [1, 4, 9]
    np.testing.assert_allclose(table["ratio"], 1, atol=0.03)
    np.testing.assert_allclose(table["liver_suv_mean"], 2, atol=0.02)


def test_texture_does_not_grow_with_the_factor(region):
    table = liver_noise_table(series_of(0.1), {4.0: series_of(0.2)}, region=region, noise_cov=0.06)
    texture = table["liver_cov"][0] ** 2 - 0.06**2
    assert table["expected_cov"][1] == pytest.approx(np.sqrt(texture + 4 * 0.06**2))


def test_the_page_holds_everything_and_escapes_text(tmp_path, region):
    low = {4.0: series_of(0.2), 10.0: series_of(0.32)}
    arguments = {
        "title": "<b>x</b>",
        "full": series_of(0.1),
        "low": low,
        "region": region,
        "noise_cov": 0.1,
        "texture": "own .3 & inserted .31",
        "run": {"Seed": 3},
    }
    page = write_noise_page(tmp_path / "page.html", **arguments).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    for text in (
        "&lt;b&gt;x&lt;/b&gt;",
        "Made &lt;up&gt;.",
        "<td>10</td>",
        "own .3 &amp; inserted .31",
        "<dt>Seed</dt><dd>3</dd>",
    ):
        assert text in page
    for text in ("<b>x</b>", "http", "<script"):
        assert text not in page
    again = write_noise_page(tmp_path / "again.html", **arguments).read_text(encoding="utf-8")
    assert again == page


def test_the_figure_is_png(region):
    table = liver_noise_table(series_of(0.1), {4.0: series_of(0.2)}, region=region, noise_cov=0.1)
    assert liver_noise_figure(table).startswith(b"\x89PNG")


def test_series_of_another_grid_is_refused(tmp_path, region):
    full = series_of(0.1)
    other = PETSeries(suv=full.suv[1:], affine=full.affine, header=full.header)
    with pytest.raises(PETError, match="factor 4"):
        write_noise_page(
            tmp_path / "x.html",
            title="",
            full=full,
            low={4.0: other},
            region=region,
            noise_cov=0.1,
            texture="",
            run={},
        )
