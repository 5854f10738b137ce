"""Volumes in files: every crop is what was written, and damage never passes for data."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data import Store
from pipeline.data.store.volume_file import VolumeFile, write_volume
from pipeline.pet import PETError

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    values = rng.normal(size=(70, 33, 64)).astype(np.float32)
    path = tmp_path_factory.mktemp("volume") / "full.vol"
    return path, values, write_volume(values, path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_crop_is_what_was_written(volume, data):
    path, values, _ = volume
    bound = st.none() | st.integers(-80, 80)
    crop = tuple(slice(data.draw(bound), data.draw(bound)) for _ in range(data.draw(st.integers(0, 3))))
    file = VolumeFile(path)
    np.testing.assert_array_equal(file[crop], values[crop])
    file.close()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16, np.uint32, ">f4", ">u2"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 32, 32), (33, 1, 65)])
def test_every_type_and_shape_comes_back(tmp_path, dtype, shape):
    values = (rng.random(shape) * 200).astype(dtype)
    write_volume(values, tmp_path / "x.vol")
    again = VolumeFile(tmp_path / "x.vol")[...]
    np.testing.assert_array_equal(again, values)
    assert again.dtype == np.dtype(dtype).newbyteorder("<")


def test_equal_volumes_are_equal_files(volume, tmp_path):
    path, values, index = volume
    assert write_volume(np.asfortranarray(values), tmp_path / "again.vol") == index
    assert (tmp_path / "again.vol").read_bytes() == path.read_bytes()


def test_only_the_chunks_of_a_crop_are_read(volume):
    file = VolumeFile(volume[0])
    file[0:32, 0:32, 32:64]
    assert np.flatnonzero(file.checked).tolist() == [1]


@pytest.mark.parametrize(
    "values", [np.zeros((3, 3), "f4"), np.zeros((0, 3, 3), "f4"), np.zeros((2, 2, 2)), np.full((2, 2, 2), object)]
)
def test_what_is_no_volume_is_not_written(tmp_path, values):
    with pytest.raises(PETError, match="expected unsigned integers up to 32 bits or float32"):
        write_volume(values, tmp_path / "x.vol")


@pytest.mark.parametrize("crop", [0, (slice(None), 0), (slice(0, 4, 2),), (slice(None),) * 4])
def test_indices_that_are_no_crop_are_refused(volume, crop):
    with pytest.raises(IndexError, match="slices"):
        VolumeFile(volume[0])[crop]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_one_wrong_byte_is_an_error_or_of_no_consequence(volume, tmp_path_factory, data):
    path, values, _ = volume
    content = bytearray(path.read_bytes())
    # Most of the flips hit the index, the description and the trailer.
    last = len(content) - 1
    place = data.draw(st.integers(0, last) | st.integers(last - 300, last) | st.integers(last - 23, last))
    content[place] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path_factory.mktemp("damaged") / "full.vol"
    damaged.write_bytes(content)
    if place < 8:  # the magic number at the beginning is for tools that look at files
        np.testing.assert_array_equal(VolumeFile(damaged)[...], values)
    else:
        with pytest.raises(PETError, match="unipet prepare") as error:
            VolumeFile(damaged)[...]
        assert str(damaged) in str(error.value)


@pytest.mark.parametrize("n_bytes", [0, 10, 1000, -1])
def test_a_file_that_is_cut_short_is_refused(volume, tmp_path, n_bytes):
    (tmp_path / "x.vol").write_bytes(volume[0].read_bytes()[:n_bytes])
    with pytest.raises(PETError, match="cut short"):
        VolumeFile(tmp_path / "x.vol")


def test_a_damaged_chunk_is_named_and_the_others_can_be_read(volume, tmp_path):
    path, values, _ = volume
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    (tmp_path / "x.vol").write_bytes(content)
    file = VolumeFile(tmp_path / "x.vol")
    np.testing.assert_array_equal(file[40:], values[40:])
    for read in (lambda: file[0:1, 0:1, 0:1], file.verify):
        with pytest.raises(
            PETError, match=r"x\.vol: chunk 0 of 12 \(voxels X 0 to 31, Y 0 to 31, Z 0 to 31\) is damaged"
        ):
            read()


def test_another_volume_of_the_same_name_is_refused(volume, tmp_path):
    _, values, index = volume
    write_volume(values + 1, tmp_path / "x.vol")
    with pytest.raises(PETError, match="another volume"):
        VolumeFile(tmp_path / "x.vol", index_crc32=index)


def test_the_store_holds_what_was_read(scans, store_folder):
    store = Store(store_folder)
    assert list(store.subjects) == ["s0", "s1", "s2"]
    assert [s.id for s in store.of_split("validation")] == ["s2"]
    for (subject, name), values in scans.truth.items():
        np.testing.assert_array_equal(store.volume(subject, name)[...], values)
        series = store.series(subject, name)
        np.testing.assert_array_equal(series.suv, values)
        assert series.voxel_size == (5.0, 5.0, 5.0)
    assert store.subject("s0").doses == {1.0: "full", 4.0: "drf004", 20.0: "drf020"}
    assert store.subject("s0").voxel_size == (5.0, 5.0, 5.0)


def test_what_a_store_does_not_have_is_said(store_folder, tmp_path):
    store = Store(store_folder)
    with pytest.raises(PETError, match="no subject s9"):
        store.volume("s9", "full")
    with pytest.raises(PETError, match="s0 has no drf050, expected one of full, drf004"):
        store.volume("s0", "drf050")
    with pytest.raises(PETError, match="lesions of s0 is no image"):
        store.series("s0", "lesions")
    with pytest.raises(PETError, match="no such folder"):
        Store(tmp_path / "nowhere")
    with pytest.raises(PETError, match=r"no readable store\.json"):
        Store(tmp_path)
    (tmp_path / "store.json").write_text('{"format_version": 99}')
    with pytest.raises(PETError, match="format 99, expected 2"):
        Store(tmp_path)


def test_few_files_are_open_however_many_are_read(scans, store_folder):
    store = Store(store_folder, max_open=3)

    def n_open() -> int:
        links = (link for link in Path("/proc/self/fd").iterdir() if link.exists())
        return sum(link.resolve().is_relative_to(store_folder) for link in links)

    before = n_open()
    for _ in range(2):
        for (subject, name), values in scans.truth.items():
            np.testing.assert_array_equal(store.volume(subject, name)[3:9, :4], values[3:9, :4])
    assert n_open() - before == 3


def test_a_chunk_is_compared_once_in_a_process(store_folder):
    store = Store(store_folder, max_open=1)
    store.volume("s0", "full")[:8, :8, :8]
    store.volume("s1", "full")  # closes the first
    assert store.volume("s0", "full").checked.sum() == 1


def test_a_copy_opens_files_of_its_own(scans, store_folder):
    store = Store(store_folder)
    store.volume("s0", "full")[:2]
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.volume("s0", "full")[:2], scans.truth["s0", "full"][:2])
    assert copy.volume("s0", "full") is not store.volume("s0", "full")
