"""Label maps in and out: masks, organs, other grids, and the lookup table of BIDS."""

import nibabel as nib
import numpy as np
import pytest

from pipeline.errors import PETError
from pipeline.images import Regions
from pipeline.pet.grid import Grid
from pipeline.regions import read_regions, write_label_map
from pipeline.regions.placing import labels_on
from tests.regions.drawn_scans import SHAPE, drawn, series_on


def affine_of(sizes=(4.0, 5.0, 3.0), start=(-17.0, 21.0, -300.5)):
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = start
    return affine


@pytest.fixture(scope="module")
def series():
    return series_on(affine_of())


def save(labels, affine, path):
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


def test_a_mask_as_autopet_and_lion_write_it_is_split_into_its_parts(series, tmp_path):
    mask = np.zeros(SHAPE, np.uint8)
    mask[1:3, 1:3, 1:3] = 1
    mask[3, 3, 3] = 1  # touches the first by a corner
    mask[7, 6, 5] = 1
    # X to the left and Y to the back, as most of them store it.
    turned = affine_of() @ np.diag([-1, -1, 1, 1])
    turned[:3, 3] = (affine_of() @ [SHAPE[0] - 1, SHAPE[1] - 1, 0, 1])[:3]
    regions = read_regions(save(mask[::-1, ::-1], turned, tmp_path / "SEG.nii.gz"), series)
    expected = np.where(mask, 1, 0)
    expected[7, 6, 5] = 2
    np.testing.assert_array_equal(regions.labels, expected)
    assert regions.method == "given mask, its 26-connected parts"
    assert regions.names == {}


@pytest.mark.parametrize("kind", [np.int16, np.float64])
def test_organs_as_moose_writes_them_keep_their_numbers(series, tmp_path, kind):
    organs = np.zeros(SHAPE, kind)
    organs[:4], organs[6:] = 5, 117
    (tmp_path / "organs.tsv").write_text("a table of something else")
    regions = read_regions(save(organs, affine_of(), tmp_path / "organs.nii"), series)
    np.testing.assert_array_equal(regions.labels, organs)
    assert regions.numbers == [5, 117]
    assert regions.method == "given label map"


def test_what_is_written_reads_the_same(series, tmp_path):
    regions = drawn()
    path = write_label_map(regions, tmp_path / "sub-1_dseg.nii.gz", grid=series.grid)
    read = read_regions(path, series)
    np.testing.assert_array_equal(read.labels, regions.labels)
    assert read.names == {1: "Liver met", 3: "Region 3", 4: "Node"}
    assert (tmp_path / "sub-1_dseg.tsv").read_text() == "index\tname\n1\tLiver met\n3\tRegion 3\n4\tNode\n"
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    assert image.header.get_intent()[0] == "label"
    assert read_regions(path, series, names=["Node"]).numbers == [4]


def test_no_regions_and_many(series, tmp_path):
    none = Regions(np.zeros(SHAPE, np.int32), "nothing")
    path = write_label_map(none, tmp_path / "none_dseg.nii.gz", grid=series.grid)
    assert read_regions(path, series).n_regions == 0
    many = Regions(np.arange(np.prod(SHAPE), dtype=np.int32).reshape(SHAPE), "all")
    path = write_label_map(many, tmp_path / "many_dseg.nii.gz", grid=series.grid)
    assert nib.load(path).get_data_dtype() == np.uint16
    np.testing.assert_array_equal(read_regions(path, series).labels, many.labels)


def test_a_region_of_two_parts_stays_one(series, tmp_path):
    labels = np.zeros(SHAPE, np.int32)
    labels[0, 0, 0] = labels[5, 5, 5] = 1
    path = write_label_map(Regions(labels, "two parts"), tmp_path / "a_dseg.nii.gz", grid=series.grid)
    np.testing.assert_array_equal(read_regions(path, series).labels, labels)


# ------------------------------------------------------------------------- another grid


def test_a_finer_grid_is_resampled_and_says_so(series, tmp_path):
    # Every voxel of the scan is three of the mask each way: nothing may be lost.
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:5, 3:5, 0:3] = 1
    mask[8, 7, 6] = 1
    fine = np.kron(mask, np.ones((3, 3, 3), np.uint8))
    affine = affine_of((4 / 3, 5 / 3, 1.0), start=(-17.0 - 4 / 3, 21.0 - 5 / 3, -301.5))
    regions = read_regions(save(fine, affine, tmp_path / "fine.nii.gz"), series)
    np.testing.assert_array_equal(regions.labels > 0, mask > 0)
    assert regions.method == (
        "given mask, its 26-connected parts, nearest neighbour from 27 x 24 x 21 voxels of 1.3333 x 1.6667 x 1 mm "
        "to 9 x 8 x 7 voxels of 4 x 5 x 3 mm, 1.14 mL became 1.14 mL"
    )


def test_a_turned_grid_is_resampled_to_the_nearest_centre(series):
    angle = np.radians(20)
    turned = np.eye(4)
    turned[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    turned[:3, :3] *= 1.5
    turned[:3, 3] = [-12.0, 20.0, -303.0]
    found = Grid((40, 40, 20), turned)
    labels = np.zeros(found.shape, np.uint8)
    labels[12:20, 12:20, 5:12] = 7
    placed, done = labels_on(labels, found, series.grid)
    for index in np.ndindex(*SHAPE):
        source = np.linalg.inv(turned) @ series.affine @ [*index, 1]
        nearest = np.rint(source[:3]).astype(int)
        inside = (nearest >= 0).all() and (nearest < found.shape).all()
        assert placed[index] == (labels[tuple(nearest)] if inside else 0)
    assert done.startswith("nearest neighbour from 40 x 40 x 20 voxels of 1.5 x 1.5 x 1.5 mm")
    assert placed.any()


def test_a_part_of_the_grid_is_not_resampled(series):
    part = Grid((3, 4, 2), affine_of(start=(-17.0 + 8, 21.0 + 10, -300.5 + 9)))
    labels = np.arange(24, dtype=np.uint8).reshape(3, 4, 2)
    placed, done = labels_on(labels, part, series.grid)
    assert done == ""
    np.testing.assert_array_equal(placed[2:5, 2:6, 3:5], labels)
    assert np.count_nonzero(placed) == 23


def test_regions_between_voxel_centres_are_named(series, tmp_path):
    labels = np.zeros((18, 16, 14), np.int16)
    labels[2:6, 2:6, 2:6] = 3
    labels[10, 10, 10] = 9
    affine = affine_of((2.0, 2.5, 1.5), start=(-17.0 - 1.1, 21.0 - 1.3, -300.5 - 0.8))
    labels[11, 11, 11] = 8
    method = read_regions(save(labels, affine, tmp_path / "organs.nii.gz"), series).method
    assert method.endswith("1 regions between voxel centres left out (number 9)")


# ------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("labels", "affine", "message"),
    [
        (np.full(SHAPE, 0.5, np.float32), affine_of(), "holds values from 0.5 to 0.5, expected whole numbers from 0"),
        (np.full(SHAPE, -1, np.int16), affine_of(), "holds values from -1 to -1, expected whole numbers from 0 up"),
        (np.full(SHAPE, np.nan, np.float32), affine_of(), "504 voxels are not finite, expected numbers"),
        (np.ones((*SHAPE, 2), np.uint8), affine_of(), r"image has shape \(9, 8, 7, 2\), expected one static volume"),
        (
            np.ones(SHAPE, np.uint8),
            affine_of(start=(100, 21, -300.5)),
            r"504 of 504 labelled voxels lie outside of the scan: labels on 9 x 8 x 7 voxels of 4 x 5 x 3 mm from "
            r"\(98.0, 18.5, -302.0\) to \(134.0, 58.5, -281.0\) mm, scan on 9 x 8 x 7 voxels",
        ),
        (np.ones(SHAPE, np.uint8), affine_of(start=(-17, 21, -297.5)), "72 of 504 labelled voxels lie outside"),
    ],
)
def test_label_maps_that_cannot_be_read(series, tmp_path, labels, affine, message):
    with pytest.raises(PETError, match=f"labels.nii.gz: {message}") as caught:
        read_regions(save(labels, affine, tmp_path / "labels.nii.gz"), series)
    assert "\n" not in str(caught.value)


def test_no_voxel_centre_in_any_region(series, tmp_path):
    labels = np.zeros((18, 16, 14), np.uint8)
    labels[10, 10, 10] = 1
    affine = affine_of((2.0, 2.5, 1.5), start=(-17.0 - 1.1, 21.0 - 1.3, -300.5 - 0.8))
    with pytest.raises(PETError, match="no voxel centre of the scan lies in a region"):
        read_regions(save(labels, affine, tmp_path / "labels.nii.gz"), series)


def test_names_that_are_not_there_and_tables_that_are_none(series, tmp_path):
    path = write_label_map(drawn(), tmp_path / "a_dseg.nii.gz", grid=series.grid)
    with pytest.raises(PETError, match="holds no region 'Lung', expected one of: 'Liver met', 'Node', 'Region 3'"):
        read_regions(path, series, names=["Lung"])
    (tmp_path / "a_dseg.tsv").write_text("number\tname\n1\tA\n")
    with pytest.raises(PETError, match=r"a_dseg.tsv: not a lookup table .* expected the columns index and name"):
        read_regions(path, series)


def test_regions_are_chosen_by_number_where_no_table_names_them(series, tmp_path):
    path = save(drawn().labels.astype(np.uint8), series.affine, tmp_path / "organs.nii.gz")
    assert list(read_regions(path, series, names=["3", "4"]).numbers) == [3, 4]
    with pytest.raises(PETError, match="holds no region '7', expected one of: 1, 3, 4"):
        read_regions(path, series, names=["3", "7"])
    named = Regions(drawn().labels, "drawn", names={1: "3", 3: "Node"})
    path = write_label_map(named, tmp_path / "a_dseg.nii.gz", grid=series.grid)
    assert list(read_regions(path, series, names=["3"]).numbers) == [1]  # the name, not the number
    assert list(read_regions(path, series, names=["4"]).numbers) == [4]


def test_a_mask_is_chosen_by_its_one_number(series, tmp_path):
    path = save((drawn().labels > 0).astype(np.uint8), series.affine, tmp_path / "mask.nii.gz")
    everything = read_regions(path, series)
    np.testing.assert_array_equal(read_regions(path, series, names=["1"]).labels, everything.labels)


def test_names_that_cannot_be_written(series, tmp_path):
    with pytest.raises(PETError, match=r"expected a name ending in _dseg.nii.gz"):
        write_label_map(drawn(), tmp_path / "labels.nii.gz", grid=series.grid)
    with pytest.raises(PETError, match=r"labels of shape \(9, 8, 7\), expected 2 x 8 x 7 voxels"):
        write_label_map(drawn(), tmp_path / "a_dseg.nii.gz", grid=Grid((2, 8, 7), affine_of()))
    assert not list(tmp_path.iterdir())


def test_an_injected_name_is_inert_in_the_table(series, tmp_path):
    regions = Regions(drawn().labels, "drawn", names={1: "=cmd()\t\n<script>", 3: "a" * 100})
    write_label_map(regions, tmp_path / "a_dseg.nii.gz", grid=series.grid)
    lines = (tmp_path / "a_dseg.tsv").read_text().splitlines()
    assert lines == ["index\tname", "1\t'=cmd() <script>", f"3\t{'a' * 64}", "4\tRegion 4"]
