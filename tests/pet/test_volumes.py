"""Volumes of ITK and 3D Slicer pass the same checks as NIfTI, and lie where SimpleITK says that they lie."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from pipeline.pet import PETError, explain_suv, read_pet, write_nifti
from pipeline.pet.volumes import read_grid, read_labels_on, sidecar_path_of


def save(voxels, path, *, sidecar=None, compressed=False, spacing=(4.0, 5.0, 3.0), direction=None, vector=False):
    """Write voxels in the order X, Y, Z with LPS axes, the first voxel at (17, -21, -300.5) mm."""
    image = sitk.GetImageFromArray(voxels.T, isVector=vector)
    image.SetSpacing(spacing)
    image.SetOrigin((17.0, -21.0, -300.5))
    image.SetDirection(direction or (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(path), useCompression=compressed)
    sidecar_path_of(path).write_text(json.dumps(sidecar or {"Units": "g/mL"}))
    return path


@pytest.fixture(params=["scan.mha", "scan.nrrd"])
def path(request, tmp_path):
    return tmp_path / request.param


@pytest.mark.parametrize("compressed", [False, True])
def test_foreign_formats_are_read_as_nifti_is(path, series, tmp_path, compressed):
    expected = read_pet(write_nifti(series, tmp_path / "same.nii"))
    read = read_pet(save(series.suv, path, compressed=compressed))
    np.testing.assert_array_equal(read.suv, expected.suv)
    np.testing.assert_allclose(read.affine, expected.affine, atol=1e-4)
    assert read.source_files == (path,)
    sidecar = {**json.loads((tmp_path / "same.json").read_text()), "Units": "kBq/mL"}
    factor = explain_suv(save(series.suv, path, sidecar=sidecar)).factors[0]
    assert read_pet(path).suv.max() == pytest.approx(series.suv.max() * factor, rel=1e-6)


def test_axes_are_turned(path, series):
    voxels = np.ascontiguousarray(series.suv[::-1].transpose(2, 1, 0))
    # The first axis runs to the head, the third to the left; the first voxel is the last of X.
    save(voxels, path, spacing=(3.0, 5.0, 4.0), direction=(0, 0, 1, 0, -1, 0, 1, 0, 0))
    read = read_pet(path)
    np.testing.assert_array_equal(read.suv, series.suv)
    np.testing.assert_allclose(read.affine[:3, 3], [-17.0 - 7 * 4, 21, -300.5], atol=1e-4)


def test_labels_lie_on_the_grid_of_their_image(path, series):
    labels = (series.suv > 5).astype(np.uint8)
    np.testing.assert_array_equal(read_labels_on(save(labels, path), series.grid), labels)
    with pytest.raises(PETError, match="lies on another grid"):
        read_labels_on(save(labels, path, spacing=(4.0, 5.0, 3.1)), series.grid)


def spoiled(path, spoil):
    content = path.read_bytes()
    path.write_bytes(spoil(content))
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spacing": (1e4, 5.0, 3.0)}, "voxels are 10000 x"),
        ({"voxels": np.zeros((8, 10, 12, 2), "f4").T, "vector": True}, "expected real numbers"),
        ({"voxels": np.full((8, 10, 12), np.nan, "f4")}, "960 voxels are not finite"),
    ],
)
def test_what_is_no_pet_is_refused(path, options, message):
    options = {"voxels": np.ones((8, 10, 12), "f4"), **options}
    with pytest.raises(PETError, match=message):
        read_pet(save(options.pop("voxels"), path, **options))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_files_cut_short(path, series, keep, compressed):
    save(series.suv, path, compressed=compressed)
    with pytest.raises(PETError, match=r"not a readable|space"):
        read_pet(spoiled(path, lambda content: content[: int(keep * len(content))]))


def test_voxels_of_another_file_and_an_unnamed_space_are_refused(series, tmp_path):
    mha = save(series.suv, tmp_path / "a.mha")
    other = spoiled(mha, lambda content: content.replace(b"ElementDataFile = LOCAL", b"ElementDataFile = b.raw"))
    with pytest.raises(PETError, match="in another file"):
        read_grid(other)
    nrrd = save(series.suv, tmp_path / "a.nrrd")
    with pytest.raises(PETError, match="coordinates are not named"):
        read_grid(spoiled(nrrd, lambda c: c.replace(b"space: left-posterior-superior\n", b"space dimension: 3\n")))


def test_a_small_file_of_a_huge_volume_is_not_expanded(series, tmp_path):
    mha = save(series.suv, tmp_path / "a.mha", compressed=True)
    huge = spoiled(mha, lambda content: content.replace(b"DimSize = 8 10 12", b"DimSize = 3000 3000 3000"))
    with pytest.raises(PETError, match="voxels, expected at most"):
        read_pet(huge)


@pytest.mark.parametrize(("name", "kind"), [("scan.mha", "MetaImage"), ("scan.nrrd", "NRRD"), ("scan.nii", "NIfTI")])
def test_a_damaged_file_is_called_what_it_is(name, kind, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"NRRD0004\nspace: left-posterior-superior\nno volume at all")
    with pytest.raises(PETError, match=f"not a readable {kind} file"):
        read_grid(path)
