"""Files that an attacker wrote, checksums and all: refused in one line, and never read past a buffer."""

import json
import shutil
import subprocess
import sys
import zlib

import blosc2
import numpy as np
import pytest

from pipeline.data import Store
from pipeline.data.store.store import write_record
from pipeline.data.store.volume_file import _INDEX, _PLACES, _TRAILER, MAGIC, VolumeFile, write_volume
from pipeline.pet import PETError

SHAPE = (33, 20, 8)


def packed(values: np.ndarray, **options: object) -> bytes:
    settings = {"codec": blosc2.Codec.LZ4, "clevel": 5, "filters": [blosc2.Filter.SHUFFLE], "nthreads": 1}
    return blosc2.compress2(np.ascontiguousarray(values), typesize=values.itemsize, **(settings | options))


def forged(path, chunks, *, offsets=None, lengths=None, **description):
    """Write a volume whose every checksum is right, whatever its parts say."""
    text = json.dumps({"shape": SHAPE, "dtype": "<f4", "edge": 32, **description}).encode()
    places = len(MAGIC) + np.cumsum([0, *map(len, chunks)])
    entries = [
        (places[n] if offsets is None else offsets[n], len(c) if lengths is None else lengths[n], zlib.crc32(c))
        for n, c in enumerate(chunks)
    ]
    tail = np.array(entries, dtype=_INDEX).tobytes() + text
    crc32 = zlib.crc32(tail + _PLACES.pack(places[-1], len(text)))
    path.write_bytes(MAGIC + b"".join(chunks) + tail + _TRAILER.pack(places[-1], len(text), crc32, MAGIC))
    return path


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype("<f4")


GOOD = [packed(floats(32, 20, 8)), packed(floats(1, 20, 8))]


def test_an_honest_file_of_this_form_is_read(tmp_path):
    values = VolumeFile(forged(tmp_path / "x.vol", GOOD))[...]
    np.testing.assert_array_equal(values, np.concatenate([floats(32, 20, 8), floats(1, 20, 8)]))


def changed(chunk: bytes, place: int, *values: int) -> bytes:
    """A chunk with other bytes in its own header."""
    return chunk[:place] + bytes(values) + chunk[place + len(values) :]


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"dtype": "|O"}, id="pointers"),
        pytest.param({"dtype": "<f8"}, id="a type that is never written"),
        pytest.param({"dtype": ["<f4"]}, id="no name of a type"),
        pytest.param({"shape": [33, 20]}, id="two sizes"),
        pytest.param({"shape": [-33, -20, 8]}, id="negative sizes"),
        pytest.param({"shape": [33, 20, 8.0]}, id="a fraction"),
        pytest.param({"shape": [33, 20, True]}, id="a truth value"),
        pytest.param({"shape": [65, 20, 8]}, id="more chunks than the index has"),
        pytest.param({"shape": [2**40, 2**40, 2**40]}, id="sizes beyond any memory"),
        pytest.param({"edge": 0}, id="chunks of nothing"),
        pytest.param({"edge": 64}, id="other chunks"),
        pytest.param({"offsets": [8, 2**63]}, id="a chunk beyond the file"),
        pytest.param({"offsets": [8, 8]}, id="chunks on one another"),
        pytest.param({"lengths": [2**32 - 1, len(GOOD[1])]}, id="a chunk longer than the file"),
    ],
)
def test_a_description_or_index_that_was_never_written_is_refused(tmp_path, parts):
    with pytest.raises(PETError, match=r"x\.vol: .*unipet prepare"):
        VolumeFile(forged(tmp_path / "x.vol", GOOD, **parts))


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param(packed(floats(32, 32, 32)), id="larger than its place"),
        pytest.param(packed(floats(31, 20, 8)), id="smaller than its place"),
        pytest.param(b"", id="empty"),
        pytest.param(GOOD[0][:20], id="cut in its header"),
        pytest.param(changed(GOOD[0], 12, 255, 255, 255, 0), id="claims more bytes than it has"),
        pytest.param(changed(GOOD[0], 31, 0x40), id="of values that nobody set"),
        pytest.param(packed(floats(32, 20, 8), codec=blosc2.Codec.ZSTD), id="another codec"),
        pytest.param(packed(floats(32, 20, 8), filters=[blosc2.Filter.BITSHUFFLE]), id="another filter"),
        pytest.param(changed(GOOD[0], 22, 200), id="a codec to be loaded from elsewhere"),
    ],
)
def test_a_chunk_that_was_never_written_is_refused_before_it_is_unpacked(tmp_path, chunk):
    path = forged(tmp_path / "x.vol", [chunk, GOOD[1]])
    for read in (lambda file: file[...], VolumeFile.verify):
        with pytest.raises(PETError, match=r"x\.vol: .*unipet prepare"):
            read(VolumeFile(path))


FUZZ = """
import sys, zlib
import numpy as np
from pathlib import Path
from pipeline.errors import PETError
from pipeline.data import Store
from pipeline.data.store.store import write_record
from pipeline.data.store.volume_file import _INDEX, _PLACES, _TRAILER, VolumeFile

path, whole = Path(sys.argv[1]), bytearray(Path(sys.argv[1]).read_bytes())
expected = VolumeFile(path)[...]
rng = np.random.default_rng(int(sys.argv[2]))
offset, n_text, _, magic = _TRAILER.unpack(whole[-_TRAILER.size:])
n_index = len(whole) - _TRAILER.size - offset - n_text
index = np.frombuffer(bytes(whole[offset:offset + n_index]), dtype=_INDEX)
refused = read = 0
for n in range(4000):
    content = bytearray(whole)
    entry = index[rng.integers(len(index))]
    begin, end = {
        0: (int(entry["offset"]), int(entry["offset"]) + 32),  # header of a chunk
        1: (int(entry["offset"]), int(entry["offset"]) + int(entry["length"])),
        2: (offset, offset + n_index),
        3: (offset + n_index, offset + n_index + n_text),
        4: (0, len(content)),
    }[int(rng.integers(5))]
    for _ in range(rng.integers(1, 5)):
        place = int(rng.integers(begin, end))
        content[place] = int(rng.choice([0, 1, 127, 128, 255, rng.integers(256)]))
    tail = np.frombuffer(bytes(content[offset:offset + n_index]), dtype=_INDEX).copy()
    for row in tail:  # the attacker takes checksums, too
        row["crc32"] = zlib.crc32(content[int(row["offset"]):int(row["offset"]) + int(row["length"])])
    content[offset:offset + n_index] = tail.tobytes()
    body = bytes(content[offset:offset + n_index + n_text])
    crc32 = zlib.crc32(body + _PLACES.pack(offset, n_text))
    content[-_TRAILER.size:] = _TRAILER.pack(offset, n_text, crc32, magic)
    path.write_bytes(content)
    try:
        file = VolumeFile(path)
        file.verify()
        values = file[...]
        file.close()
        assert values.shape == expected.shape and values.dtype == expected.dtype
        read += 1
    except PETError as error:
        assert "unipet prepare" in str(error) and "\\n" not in str(error)
        refused += 1
print(refused, read)
"""


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_thousands_of_forged_files_never_end_the_process(tmp_path, seed):
    values = np.random.default_rng(seed).integers(0, 9, size=(33, 20, 40)).astype(np.float32)
    write_volume(values, tmp_path / "x.vol")
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, tmp_path / "x.vol", str(seed)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-2000:]}"
    refused, read = map(int, done.stdout.split())
    assert refused + read == 4000
    assert min(refused, read) > 100


@pytest.mark.parametrize("name", ["store.json", "subjects/s0/subject.json"])
def test_a_record_nested_beyond_reason_is_damaged(store_folder, tmp_path, name):
    shutil.copytree(store_folder, tmp_path / "store")
    (tmp_path / "store" / name).write_text("[" * 50_000)
    with pytest.raises(PETError, match="unipet prepare"):
        Store(tmp_path / "store")


def test_a_volume_of_another_shape_than_its_record_says_is_refused(store_folder, tmp_path):
    shutil.copytree(store_folder, tmp_path / "store")
    subject = Store(tmp_path / "store").subject("s0")
    crc32 = write_volume(floats(9, 9, 9), tmp_path / "store" / "subjects" / "s0" / "full.vol")
    volumes = {**subject.volumes, "full": subject.volumes["full"].model_copy(update={"index_crc32": crc32})}
    record = tmp_path / "store" / "subjects" / "s0" / "subject.json"
    write_record(subject.model_copy(update={"volumes": volumes}), record)
    with pytest.raises(PETError, match=r"full\.vol: has shape \(9, 9, 9\), expected \(40, 36, 44\)"):
        Store(tmp_path / "store").volume("s0", "full")
