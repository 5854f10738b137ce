"""The page is complete, escaped, reproducible and free of anything external."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest

from pipeline.evaluation import lesion_table, matches_of_images, reference_errors, region_contrast
from pipeline.images import Regions, body_mask, gaussian_filter_mm, regions_in_either
from pipeline.pet import PETError, PETHeader, PETSeries, read_pet
from pipeline.report import write_report, write_viewer
from tests.series import Scan, save_series, slices_of

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
RUN = {"Method": "Gaussian", "Weights SHA-256": "none", "Remark": "<script>alert(1)</script>"}


@pytest.fixture(scope="module")
def before() -> PETSeries:
    x, y, z = np.meshgrid(*(np.arange(n) * 4.0 for n in (60, 50, 70)), indexing="ij")
    suv = np.where(((x - 120) / 90) ** 2 + ((y - 100) / 70) ** 2 <= 1, 1.0, 0.0)
    suv[(x - 100) ** 2 + (y - 90) ** 2 + (z - 150) ** 2 <= 15**2] = 9.0
    noise = np.random.default_rng(0).normal(1, 0.2, suv.shape)
    header = PETHeader(
        units="BQML",
        decay_correction="START",
        radionuclide="F-18",
        radiopharmaceutical="FDG <b>",
        injected_dose=3.5e8,
        patient_weight=70.0,
        administration_time=-3600.0,
        reference_time=0.0,
    )
    return PETSeries(suv=suv * noise, affine=AFFINE, header=header, suvbw_factor=2e-4, provenance=("Read & checked.",))


@pytest.fixture(scope="module")
def after(before) -> PETSeries:
    return before.with_suv(gaussian_filter_mm(before.suv, fwhm=6.0, voxel_size=(4, 4, 4)), note="Smoothed.")


def regions_of(before: PETSeries, after: PETSeries, threshold: float = 4.0) -> Regions:
    return regions_in_either(before.suv, after.suv, voxel_size=before.voxel_size, threshold=threshold)


def table(before: PETSeries, after: PETSeries, *, threshold: float = 4.0):
    regions = regions_of(before, after, threshold)
    return lesion_table(before.suv, after.suv, regions, voxel_size=before.voxel_size, affine=before.affine)


def matched(regions: Regions, **series: PETSeries):
    images = {name: one.suv for name, one in series.items()}
    own = {name: regions_of(one, one) for name, one in series.items()}
    return matches_of_images(images, own, voxel_size=(4, 4, 4), affine=AFFINE, common=regions)


def write(path, before, after, lesions, **more):
    given = {"title": "Subject <1>", "before": before, "after": after, "lesions": lesions, "run": RUN} | more
    return write_report(path, **given)


@pytest.fixture(scope="module")
def html(before, after, tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("report") / "report.html"
    regions = regions_of(before, after)
    return write(path, before, after, table(before, after), regions=regions).read_text(encoding="utf-8")


def test_text_from_headers_and_runs_is_escaped(html):
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "FDG &lt;b&gt;" in html
    assert "<title>Subject &lt;1&gt;</title>" in html


def test_it_says_what_was_done_and_where_the_suv_factor_comes_from(html):
    for text in (
        "Weights SHA-256",
        "350.0 MBq",
        "70.0 kg",
        "60.0 min",
        "2.00000e-04",
        "Read &amp; checked.",
        "Smoothed.",
    ):
        assert text in html


def test_it_loads_nothing_from_outside_and_runs_no_script(html):
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:image/png;base64,)""", html)
    assert not re.search(r"https?://|@import|url\(", html)
    assert not re.search(r"<(?:script|link|iframe|object|embed|base|form)\b|\son\w+=", html)
    # Projections, plane, profile, histogram, one region, agreement of three quantities.
    assert html.count("data:image/png;base64,") == 9


def test_every_image_says_what_it_shows_and_headings_are_in_order(html):
    tags = re.findall(r"<img[^>]*>", html)
    assert all(re.search(r'alt="[^"]{20,}"', tag) for tag in tags)
    assert len({re.search('alt="([^"]*)', tag)[1] for tag in tags}) == len(tags)
    levels = [int(level) for level in re.findall(r"<h(\d)", html)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


CANARY = "<img src=x onerror=alert(7)>'\"{{ 7 * 7 }}"


@pytest.mark.usefixtures("blank_figures")
def test_text_of_whatever_source_is_inert(before, after, tmp_path):
    """Title, warnings, provenance, the method and the images of regions are shown as they are, and do nothing."""
    found = regions_of(before, after)
    regions = Regions(found.labels, CANARY, tuple(CANARY for _ in range(found.n_regions)), {1: CANARY})
    lesions = lesion_table(before.suv, after.suv, regions, voxel_size=before.voxel_size, affine=AFFINE)
    series = replace(before, provenance=(CANARY,))
    header = replace(before.header, radiopharmaceutical=CANARY, manufacturer=CANARY, reconstruction_method=CANARY)
    series = replace(series, header=header)
    more = {"title": CANARY, "warnings": [CANARY], "run": {CANARY: CANARY}, "regions": regions, "turning": True}
    more["matches"] = matched(regions, before=before, after=after).assign(method=CANARY)
    more["reference"] = replace(before, provenance=(CANARY,))
    page = write(tmp_path / "report.html", series, series.with_suv(after.suv, note=CANARY), lesions, **more)
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert text.count("{{ 7 * 7 }}") >= 8
    assert not re.search(r"<[^>]*\sonerror", text)


@pytest.mark.usefixtures("blank_figures")
def test_nobody_is_named(tmp_path):
    """Neither page has a name, an identifier or a date of a DICOM series, or what a description holds."""
    slices = slices_of(Scan())
    secrets = {"PatientName": "Zanzibar^Quentin", "PatientID": "CANARY4711", "PatientBirthDate": "19420704"}
    secrets |= {"AccessionNumber": "ACC8152", "InstitutionName": "Hospital of Oz", "SeriesDescription": CANARY}
    for dataset in slices:
        for keyword, value in secrets.items():
            setattr(dataset, keyword, value)
    series = read_pet(save_series(slices, tmp_path / "series"))
    dates = {slices[0].StudyDate, slices[0].StudyInstanceUID, slices[0].SeriesInstanceUID}
    regions, lesions = regions_of(series, series), table(series, series)
    shown = {"title": "pet", "before": series, "after": series, "regions": regions, "lesions": lesions}
    more = {"matches": matched(regions, before=series, after=series), "reference": series, "turning": True}
    for page in (
        write_report(tmp_path / "r.html", run=RUN, **shown, **more),
        write_viewer(tmp_path / "v.html", **shown),
    ):
        text = re.sub('base64,[^"]*', "", page.read_text(encoding="utf-8"))
        assert [secret for secret in ("Zanzibar", *secrets.values(), *dates) if secret in text] == []


@pytest.mark.usefixtures("blank_figures")
def test_a_reference_is_drawn_compared_and_its_errors_are_shown(html, before, after, tmp_path):
    regions, lesions = regions_of(before, after), table(before, after)
    reference = before.with_suv(before.suv * 1.1, note="Full dose.")
    page = write(tmp_path / "r.html", before, after, lesions, regions=regions, reference=reference)
    text = page.read_text(encoding="utf-8")
    assert "before, after, reference and difference" in text
    assert text.count("Bland-Altman plot") == 9
    assert text.count("Histogram of the errors of SUVpeak") == 2
    assert "Histogram of the errors of the body’s voxels" in text
    assert "One coronal plane of before, after, reference, and two differences" in text
    assert "eference" not in re.sub('base64,[^"]*', "", html)


def text_of(page) -> str:
    """Text of a page, a blank between what tags part."""
    return re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page.read_text(encoding="utf-8")))


@pytest.mark.usefixtures("blank_figures")
def test_lesions_that_are_lost_or_new_are_told_first_with_both_denominators(before, after, tmp_path):
    """One that only the scan shows, one that only the result shows, and one that both show."""
    lost, new = (slice(30, 34), slice(10, 14), slice(50, 54)), (slice(44, 48), slice(26, 30), slice(10, 14))
    scan, result = before.suv.copy(), after.suv.copy()
    scan[lost], result[new] = 11.0, 12.0
    scan, result = before.with_suv(scan, note=""), after.with_suv(result, note="")
    regions, lesions = regions_of(scan, result), table(scan, result)
    matches = matched(regions, before=scan, after=result)
    assert sorted(matches["match"]) == ["kept", "lost", "new"]
    page = write(tmp_path / "r.html", scan, result, lesions, regions=regions, matches=matches)
    text = text_of(page)
    assert "matched: 1 kept, 1 lost, 1 new" in text
    assert "after with before 3 1 33.3 % 1 33.3 % 1 33.3 % 50.0 % of 2 50.0 % of 2" in text
    assert "97.7 % of 856 lesions kept" in text
    lost_row = matches[matches["match"] == "lost"].iloc[0]
    assert f"lost before 126, 46, 206 {lost_row.volume_against_ml:.1f} 0.0 {lost_row.suv_peak_against:.2f}" in text
    html = page.read_text(encoding="utf-8")
    assert html.index("Regions kept, lost and new") < html.index("The regions in three planes")
    number = matches.loc[matches["match"] == "new", "region"].iloc[0]
    assert re.search(rf'<h3>Region {number}, <span class="marked">new</span>', html)
    assert "before only" not in text


@pytest.mark.usefixtures("blank_figures")
def test_the_tables_of_contrast_and_errors_show_their_numbers(before, after, tmp_path):
    regions, lesions = regions_of(before, after), table(before, after)
    reference = before.with_suv(before.suv * 1.1, note="Full dose.")
    body = body_mask(after.suv, voxel_size=(4, 4, 4))
    images = {"before": before.suv, "after": after.suv, "reference": reference.suv}
    contrast = region_contrast(images, regions, body=body, voxel_size=(4, 4, 4))
    errors = reference_errors(lesions, reference.suv, regions, voxel_size=(4, 4, 4))
    # The errors are not in the table that is given: the page measures them.
    page = write(tmp_path / "r.html", before, after, lesions.join(contrast), regions=regions, reference=reference)
    text = text_of(page)
    row = {**contrast.iloc[0], **errors.iloc[0]}
    shown = [f"{row[f'contrast_{when}']:.2f}" for when in images] + [f"{row[f'cnr_{when}']:.1f}" for when in images]
    for quantity in ("suv_max", "suv_peak", "suv_mean"):
        shown += [f"{row[f'{quantity}_{what}']:.2f}" for what in ("reference", "error_before", "error_after")]
    assert " ".join(["1", *shown]) in text
    assert "CNR: SUVmean less the mean of the background" in text


@pytest.mark.usefixtures("blank_figures")
def test_projections_turn_without_a_script_and_stand_still_if_that_is_asked_for(before, after, tmp_path):
    page = write(tmp_path / "r.html", before, after, table(before, after), turning=True).read_text(encoding="utf-8")
    picture = re.search(r"<picture>(.*?)</picture>", page, re.DOTALL)[1]
    still = re.search(r'<source media="([^"]*)" srcset="(data:image/webp;base64,[^"]*)">', picture)
    moving = re.search(r'<img [^>]*src="(data:image/webp;base64,[^"]*)"', picture)
    assert "(prefers-reduced-motion: reduce)" in still[1]
    assert len(still[2]) < len(moving[1]) / 5
    assert "<script" not in page
    assert page.count("<details") == 1


def test_a_reference_on_another_grid_is_refused(before, after, tmp_path):
    reference = PETSeries(suv=after.suv[1:], affine=AFFINE, header=after.header)
    with pytest.raises(PETError, match="another grid"):
        write(tmp_path / "report.html", before, after, table(before, after), reference=reference)
    assert list(tmp_path.iterdir()) == []


def test_every_tag_is_closed(html):
    class Balance(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    parser = Balance()
    parser.feed(html)
    assert parser.open == []


def test_the_table_shows_the_numbers_of_the_lesion_table(html, before, after):
    row = table(before, after).iloc[0]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", html)
    assert cells[2] == "both"
    assert f"{row.suv_max_before:.2f}" in cells
    assert f"{row.suv_peak_after:.2f}" in cells
    assert f"−{abs(row.suv_max_change_percent):.1f} %" in cells


@pytest.mark.usefixtures("blank_figures")
def test_a_large_change_is_marked_and_none_is_where_nothing_changed(html, before, after, tmp_path):
    assert 'class="marked"' in html
    same = write(tmp_path / "same.html", before, before, table(before, before)).read_text(encoding="utf-8")
    assert 'class="marked"' not in same
    assert "0.0 %" in same


@pytest.mark.usefixtures("blank_figures")
def test_no_regions_is_said_with_the_method(before, after, tmp_path):
    empty = table(before, after, threshold=50.0)
    page = write(tmp_path / "empty.html", before, after, empty).read_text(encoding="utf-8")
    assert "No region of high uptake was found (fixed SUV &gt;= 50 in either image" in page
    assert "<table" not in page


def test_the_same_arguments_give_the_same_file(html, before, after, tmp_path):
    regions = regions_of(before, after)
    again = write(tmp_path / "again.html", before, after, table(before, after), regions=regions)
    assert again.read_text(encoding="utf-8") == html


def test_a_refused_report_leaves_no_file(before, after, tmp_path):
    moved = AFFINE.copy()
    moved[0, 3] = 8.0
    elsewhere = PETSeries(suv=after.suv, affine=moved, header=after.header)
    with pytest.raises(PETError, match="another grid"):
        write(tmp_path / "report.html", before, elsewhere, table(before, after))
    assert list(tmp_path.iterdir()) == []


def hot_voxel() -> np.ndarray:
    """Whose outline, on 30 mm voxels, has no two neighbours in both directions of a plane."""
    suv = np.zeros((12, 12, 12))
    suv[6, 6, 6] = 5.0
    return suv


@pytest.mark.parametrize(
    ("suv", "reason"),
    [
        (hot_voxel(), "no voxel of the body has its neighbours in the plane in it"),
        (np.full((12, 12, 12), 0.01), "no body was found, expected SUV of 0.12 or more"),
    ],
)
def test_what_cannot_be_measured_in_a_scan_is_absent_with_the_reason(before, tmp_path, suv, reason):
    scan = PETSeries(suv=suv, affine=np.diag([30.0, 30.0, 30.0, 1.0]), header=before.header)
    page = write(tmp_path / "report.html", scan, scan, table(scan, scan)).read_text(encoding="utf-8")
    assert f"Not measured: {reason}" in page
    assert not re.search(r"\bnan\b", re.sub('base64,[^"]*', "", page))
