"""The viewer's file holds both images and the regions where they lie, nothing else, and loads nothing."""

import gzip
import json
import re
from base64 import b64decode
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from pipeline.evaluation import lesion_table
from pipeline.images import Regions
from pipeline.pet import PETError, PETHeader, PETSeries
from pipeline.report import viewer, write_viewer

CANARY = "</script><img src=x onerror=alert(7)>{{ 7 * 7 }}"
AFFINE = np.array([[4.0, 0, 0, -60], [0, 4, 0, -50], [0, 0, 5, 300], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def scans() -> tuple[PETSeries, PETSeries, Regions]:
    x, y, z = np.meshgrid(np.arange(30), np.arange(26), np.arange(20), indexing="ij")
    body = ((x - 15) / 8) ** 2 + ((y - 13) / 6) ** 2 <= 1
    suv = np.where(body, 1.0, 0.0) + np.where((abs(x - 17) < 2) & (abs(y - 12) < 2) & (abs(z - 9) < 2), 8.0, 0.0)
    suv *= np.random.default_rng(0).normal(1, 0.1, suv.shape)
    before = PETSeries(suv=suv, affine=AFFINE, header=PETHeader(units="BQML"))
    after = before.with_suv(np.clip(suv, 0, 6), note="Clipped.")
    labels = (suv > 5).astype(np.int32)
    return before, after, Regions(labels, "given", ("both",), {1: f"{CANARY} liver"})


def written(folder: Path, scans: tuple[PETSeries, PETSeries, Regions], title: str = "sub-01") -> str:
    before, after, regions = scans
    lesions = lesion_table(before.suv, after.suv, regions, voxel_size=before.voxel_size, affine=before.affine)
    path = folder / "viewer.html"
    write_viewer(path, title=title, before=before, after=after, regions=regions, lesions=lesions)
    return path.read_text(encoding="utf-8")


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def volume_of(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(b64decode(text)))


def at(image: nib.Nifti1Image, place: np.ndarray) -> float:
    """The voxel at a place [mm]."""
    index = np.linalg.solve(image.affine, [*place, 1])[:3]
    return float(image.get_fdata()[tuple(np.round(index).astype(int))])


def test_images_and_regions_lie_where_they_did(scans, tmp_path):
    data = data_of(written(tmp_path, scans))
    before, after, labels = (volume_of(text) for text in (*map(data["images"].get, data["names"]), data["labels"]))
    for index in ((17, 12, 9), (12, 14, 3), (20, 12, 19)):
        place = (AFFINE @ [*index, 1])[:3]
        assert at(before, place) == pytest.approx(scans[0].suv[index], abs=0.0051)
        assert at(after, place) == pytest.approx(scans[1].suv[index], abs=0.0051)
        assert at(labels, place) == scans[2].labels[index]
    (region,) = data["regions"]
    assert at(labels, np.array(region["place"])) == 1


def test_a_large_scan_is_shown_in_blocks_in_the_same_place(scans, tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "_MOST_VOXELS", 3000)
    page = written(tmp_path, scans)
    image = volume_of(data_of(page)["images"]["Before"])
    assert image.header.get_zooms() == (8.0, 8.0, 10.0)
    corner = np.round(np.linalg.solve(AFFINE, image.affine @ [0, 0, 0, 1])[:3] - 0.5).astype(int)
    block = tuple(slice(c + 2 * 4, c + 2 * 4 + 2) for c in corner)
    assert image.get_fdata()[4, 4, 4] == pytest.approx(scans[0].suv[block].mean(), abs=0.0051)
    assert "voxels of 8.00 × 8.00 × 10.00 mm" in page
    assert "means of 2³" in page


def test_the_highest_suv_is_held(scans, tmp_path):
    before, after, regions = scans
    hot = before.with_suv(before.suv * 1000, note="Hot.")
    image = volume_of(data_of(written(tmp_path, (hot, after, regions)))["images"]["Before"])
    assert image.get_fdata().max() == pytest.approx(hot.suv.max(), rel=1e-4)


def test_it_loads_nothing_and_text_is_inert(scans, tmp_path):
    page = written(tmp_path, scans, title=CANARY)
    assert "<img src=x" not in page
    assert page.count("{{ 7 * 7 }}") == 3
    assert data_of(page)["regions"][0]["text"].startswith(f"1 {CANARY} liver: SUVmax ")
    library = (Path(viewer.__file__).parent / "niivue" / "niivue.umd.js").read_text(encoding="utf-8")
    ours = page.replace(library, "")
    assert not re.search(r"https?://|<[^>]*\ssrc=|<link|@import|url\(|fetch\(", ours)
    assert "Redistribution and use in source and binary forms" in ours
    assert not re.search("</script|<!--", library)


def test_the_same_scan_gives_the_same_file(scans, tmp_path):
    assert written(tmp_path, scans) == written(tmp_path, scans)


def test_images_on_two_grids_are_refused(scans, tmp_path):
    before, after, regions = scans
    moved = PETSeries(suv=after.suv, affine=AFFINE + np.eye(4, k=3), header=after.header)
    with pytest.raises(PETError, match="another grid"):
        written(tmp_path, (before, moved, regions))
    assert list(tmp_path.iterdir()) == []
