"""Burden and PERCIST reference on the page: numbers as they stand in the table, and where the organ was measured."""

import re

import numpy as np
import pytest

from pipeline.evaluation import lesion_table, matches_of_images
from pipeline.images import Delineation, fixed_threshold, given_reference, liver_reference
from pipeline.pet import PETHeader, PETSeries
from pipeline.report import write_report
from pipeline.report.scan.burden import percist_facts
from pipeline.trust import burden_table

SIZE = (5.0, 5.0, 5.0)
RULE = Delineation(threshold=fixed_threshold(4.0), voxel_size=SIZE)


@pytest.fixture(scope="module")
def scans():
    suv = np.random.default_rng(0).normal(2, 0.2, (24, 24, 24)).astype(np.float32)
    suv[4:8, 4:8, 4:8] = 9.0
    before = PETSeries(suv=suv, affine=np.diag([*SIZE, 1.0]), header=PETHeader(units="GML"))
    return {"before": before, "after": before.with_suv(0.9 * suv, note="Smaller.")}


def page_of(scans, folder, **tables) -> str:
    """Page of both images with tables."""
    before, after = scans.values()
    path = write_report(folder / "report.html", title="x", before=before, after=after, run={}, **tables)
    return path.read_text(encoding="utf-8")


def test_the_page_has_the_burden_its_interval_and_the_organ(scans, tmp_path):
    images = {name: series.suv for name, series in scans.items()}
    affine = scans["before"].affine
    regions = RULE.of_either(*images.values())
    own = {name: RULE.of(image) for name, image in images.items()}
    organ = {name: liver_reference(series, center=(80.0, 80.0, 80.0)) for name, series in scans.items()}
    page = page_of(
        scans,
        tmp_path,
        lesions=lesion_table(*images.values(), regions, voxel_size=SIZE, affine=affine),
        regions=regions,
        burden=burden_table(images, regions, voxel_size=SIZE, own=own, tlg_sd=1.0),
        percist=organ,
    )
    text = " ".join(re.sub("<[^>]*>", " ", page[page.index("Burden: all regions") :]).split())
    assert "common before 1 8.0 72.0 9.00" in text
    assert "−7.2 −9.2 to −5.2" in text  # a tenth of 72 g, 1.96 x 1 g
    assert "Sphere of 30 mm, given, around 80, 80, 80 mm" in text
    threshold = 1.5 * organ["after"].suv_mean + 2 * organ["after"].suv_sd
    assert f"after, the threshold of both images {organ['after'].suv_mean:.2f}" in text
    assert f"{organ['after'].suv_sd:.2f} {threshold:.2f}" in text


def test_numbers_that_were_given_have_no_picture(scans):
    images = {name: series.suv for name, series in scans.items()}
    facts = percist_facts({"after": given_reference(2.0, 0.2, "liver")}, images, SIZE)
    assert (facts["figure"], facts["center"]) == ("", None)


@pytest.mark.parametrize("drawn_by_rule", [True, False])
def test_a_rule_is_blamed_only_for_what_it_drew(scans, tmp_path, drawn_by_rule):
    images = {name: series.suv for name, series in scans.items()}
    affine = scans["before"].affine
    regions = RULE.of_either(*images.values())
    own = {name: RULE.of(image) for name, image in images.items()} if drawn_by_rule else {}
    page = page_of(
        scans,
        tmp_path,
        lesions=lesion_table(*images.values(), regions, voxel_size=SIZE, affine=affine),
        burden=burden_table(images, regions, voxel_size=SIZE, own=own),
        matches=matches_of_images(images, own or dict.fromkeys(images, regions), voxel_size=SIZE, affine=affine),
    )
    for words in ("does not tell it from disease", "drawn by one rule", "what would a threshold draw"):
        assert (words in page) is drawn_by_rule
    assert ("regions that a rule sees in it" in " ".join(page.split())) is not drawn_by_rule
