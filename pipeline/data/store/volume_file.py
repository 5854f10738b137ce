"""One volume in one file: compressed chunks with a checksum each, read crop by crop.

Layout, little-endian::

    magic | chunk 0 | chunk 1 | ... | index | description | trailer

A chunk is a cube of 32 voxels (less at the upper borders) in C order, compressed by Blosc2. The index holds offset,
length and CRC-32 of every chunk in C order; the description is JSON with shape, type and edge of a chunk; the trailer
says where they begin and end and holds the CRC-32 of all that. Nothing is mapped into memory: a crop costs what it
touches. Checksums tell of damage, not of an attacker, and Blosc2 trusts the header of a chunk: before anything is
decompressed, type, shape, index and that header must be what `write_volume` writes.

Edge and codec were chosen by measurement, random crops from 192x288x256 noisy float32: chunks of 16, 24, 32 and 48
voxels read a crop of 64^3 in 2.6, 1.6, 1.6 and 1.7 CPU-ms and one of 96^3 in 7.9, 4.5, 3.8 and 6.6; LZ4 with byte
shuffle is 2.5 times as fast as Zstandard, whose files are 8 to 20 % smaller. Zstandard with bit shuffle is for what is
written once, is large, and is read by whole chunks, a few for each step of a training.
"""

import json
import math
import os
import struct
import zlib
from itertools import product
from pathlib import Path
from types import EllipsisType

import blosc2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.errors import PETError, naming

__all__ = ["VolumeFile", "write_volume"]

MAGIC = b"UNIPETV1"
EDGE = 32
"""Voxels along each side of a chunk."""

_INDEX = np.dtype([("offset", "<u8"), ("length", "<u4"), ("crc32", "<u4")])
_PLACES = struct.Struct("<QI")  # offset of the index, bytes of the description
_TRAILER = struct.Struct("<QII8s")  # these two, CRC-32 of index, description and these two, magic
_DTYPES = ("|u1", "<u2", "<u4", "<f4")  # labels in the smallest type that holds them, and images
# Of a Blosc2 chunk (README_CHUNK_FORMAT.rst of c-blosc2): flags, bytes an item, bytes, bytes a block, bytes compressed,
# filters, codec, flags of Blosc2.
_CHUNK_HEADER = struct.Struct("<2xBBIII6sB8xB")
_EXTENDED = 0b101  # both bits are set where the header has all 32 bytes
_CODECS = {(b"\x01" + bytes(5), 1), (b"\x02" + bytes(5), 5)}  # byte shuffle and LZ4, bit shuffle and Zstandard
_RUN, _MOST_RUNS = 0b1110000, 3 << 4  # kinds of runs: none, zeros, NaN, one value; larger is memory that nobody set
_REMEDY = "run `unipet prepare` again, which rebuilds it"


def write_volume(values: ArrayLike, path: str | Path, *, dense: bool = False) -> int:
    """Write a volume (X, Y, Z) of uint8, uint16, uint32 or float32; equal volumes give equal bytes.

    A caller that may be killed writes into a folder that gets its name last. A `dense` file is smaller, and takes
    longer to write and to read.

    The result is the CRC-32 of the index, which tells this volume from any other.

    Raises
    ------
    PETError
        If the values are no such volume, or the file cannot be written.
    """
    volume = np.asarray(values)
    volume = volume.astype(volume.dtype.newbyteorder("<"), copy=False)
    if volume.ndim != 3 or volume.size == 0 or volume.dtype.str not in _DTYPES:
        found = f"{volume.dtype} values of shape {volume.shape}"
        raise PETError(f"{path}: {found}, expected unsigned integers up to 32 bits or float32 (X, Y, Z)")
    description = json.dumps({"shape": volume.shape, "dtype": volume.dtype.str, "edge": EDGE}).encode()
    entries = []
    with naming(path), Path(path).open("wb") as file:
        offset = file.write(MAGIC)
        for corner in product(*(range(0, n, EDGE) for n in volume.shape)):
            chunk = np.ascontiguousarray(volume[tuple(slice(c, c + EDGE) for c in corner)])
            packed = blosc2.compress2(
                chunk,
                codec=blosc2.Codec.ZSTD if dense else blosc2.Codec.LZ4,
                clevel=3 if dense else 5,
                filters=[blosc2.Filter.BITSHUFFLE if dense else blosc2.Filter.SHUFFLE],
                typesize=volume.dtype.itemsize,
                nthreads=1,
            )
            entries.append((offset, len(packed), zlib.crc32(packed)))
            offset += file.write(packed)
        tail = np.array(entries, dtype=_INDEX).tobytes() + description
        crc32 = zlib.crc32(tail + _PLACES.pack(offset, len(description)))
        file.write(tail + _TRAILER.pack(offset, len(description), crc32, MAGIC))
    return crc32


class VolumeFile:
    """A volume on disk that reads what is asked for: ``volume[10:74, :, 20:84]``.

    A chunk's checksum is compared when it is first touched. A file keeps its index in memory (16 bytes per chunk) and
    one file descriptor, which processes may share.

    `index_crc32` is the CRC-32 of the index, if it is known: then another volume of the same name is refused, too.
    `checked` says which chunks were compared already, shape (n_chunks,), and is updated in place; by default none.

    Raises
    ------
    PETError
        If the file is missing, damaged, another one, or not such as `write_volume` writes.
    """

    def __init__(
        self, path: str | Path, *, index_crc32: int | None = None, checked: NDArray[np.bool_] | None = None
    ) -> None:
        self.path = Path(path)
        with naming(self.path):
            try:
                self._descriptor = os.open(self.path, os.O_RDONLY)
            except FileNotFoundError as error:
                raise PETError(f"is missing; {_REMEDY}") from error
            try:
                self._index, description, self.index_crc32 = self._read_index(index_crc32)
                shape, dtype = _read_description(description, n_chunks=len(self._index))
            except BaseException:
                self.close()
                raise
        self.shape: tuple[int, int, int] = shape
        """Voxels along X, Y, Z."""
        self.dtype = dtype
        """Type of the values."""
        self._grid = tuple(-(-n // EDGE) for n in shape)
        self.checked = np.zeros(len(self._index), dtype=bool) if checked is None else checked
        """Which chunks were compared with their checksums. Shape (n_chunks,)."""

    def _read_index(self, expected: int | None) -> tuple[NDArray[np.void], bytes, int]:
        """Return index, description and the CRC-32 of both."""
        size = os.fstat(self._descriptor).st_size
        trailer = os.pread(self._descriptor, _TRAILER.size, max(size - _TRAILER.size, 0))
        if len(trailer) < _TRAILER.size or trailer[-len(MAGIC) :] != MAGIC:
            raise PETError(f"is not a stored volume, or cut short ({size} bytes); {_REMEDY}")
        offset, n_description, crc32, _ = _TRAILER.unpack(trailer)
        # A damaged offset may point anywhere; what is read there has another checksum.
        n_tail = max(size - _TRAILER.size - offset, 0)
        tail = os.pread(self._descriptor, n_tail, min(offset, size))
        n_index = len(tail) - n_description
        if zlib.crc32(tail + _PLACES.pack(offset, n_description)) != crc32 or n_index < 0 or n_index % _INDEX.itemsize:
            raise PETError(f"its index is damaged; {_REMEDY}")
        if expected is not None and crc32 != expected:
            raise PETError(f"is another volume (index {crc32:08x}, expected {expected:08x}); {_REMEDY}")
        index = np.frombuffer(tail[:n_index], dtype=_INDEX)
        # Chunks follow each other without a gap, from the magic number to the index.
        ends = len(MAGIC) + np.cumsum(index["length"], dtype=np.uint64)
        if len(index) == 0 or ends[-1] != offset or (index["offset"] != ends - index["length"]).any():
            raise PETError(f"its index was never written by this program; {_REMEDY}")
        return index, tail[n_index:], crc32

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __del__(self) -> None:
        # An object whose file could not be opened has no descriptor.
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def __getitem__(self, crop: slice | tuple[slice, ...] | EllipsisType) -> NDArray:
        """Crop by slices without steps, whose bounds are those of numpy.

        Raises
        ------
        PETError
            If a chunk is damaged.
        """
        slices = () if crop is ... else crop if isinstance(crop, tuple) else (crop,)
        if len(slices) > 3 or not all(isinstance(s, slice) and s.step in (None, 1) for s in slices):
            raise IndexError(f"crop {crop}, expected at most three slices without steps")
        slices = (*slices, *[slice(None)] * (3 - len(slices)))
        bounds = [s.indices(n)[:2] for s, n in zip(slices, self.shape, strict=True)]
        start = np.array([b[0] for b in bounds])
        stop = np.maximum(start, [b[1] for b in bounds])
        out = np.empty(stop - start, dtype=self.dtype)
        if out.size:
            with naming(self.path):
                self._fill(out, start, stop)
        return out

    def _fill(self, out: NDArray, start: NDArray[np.int64], stop: NDArray[np.int64]) -> None:
        _, ny, nz = self._grid
        first, last = start // EDGE, (stop - 1) // EDGE
        for i, j in product(range(first[0], last[0] + 1), range(first[1], last[1] + 1)):
            # Chunks that follow each other along Z do so in the file: one reading for all.
            row = (i * ny + j) * nz
            for k, chunk in enumerate(self._read_chunks(row + first[2], row + last[2] + 1), start=first[2]):
                corner = np.array((i, j, k)) * EDGE
                low = np.maximum(corner, start)
                high = np.minimum(corner + chunk.shape, stop)
                target = tuple(slice(a, b) for a, b in zip(low - start, high - start, strict=True))
                out[target] = chunk[tuple(slice(a, b) for a, b in zip(low - corner, high - corner, strict=True))]

    def _read_chunks(self, first: int, end: int) -> list[NDArray]:
        entries = self._index[first:end]
        begin = int(entries[0]["offset"])
        n_bytes = int(entries[-1]["offset"]) + int(entries[-1]["length"]) - begin
        packed = memoryview(os.pread(self._descriptor, n_bytes, begin))
        return [
            self._unpacked(packed[offset - begin : offset - begin + length], n, crc32)
            for n, (offset, length, crc32) in enumerate(entries.tolist(), start=first)
        ]

    def _unpacked(self, chunk: memoryview, n: int, crc32: int) -> NDArray:
        self._check_chunk(chunk, n, None if self.checked[n] else crc32)
        self.checked[n] = True
        try:
            values = np.frombuffer(blosc2.decompress2(chunk, nthreads=1), dtype=self.dtype)
            return values.reshape(self._chunk_shape(n))
        except (RuntimeError, ValueError) as error:  # Blosc2 meets nonsense, or the number of values differs
            raise self._damaged(n) from error

    def _check_chunk(self, chunk: bytes | memoryview, n: int, crc32: int | None) -> None:
        """Compare a chunk with its checksum, if given, and its own header with what belongs into its place."""
        n_bytes = math.prod(self._chunk_shape(n)) * self.dtype.itemsize
        if len(chunk) < _CHUNK_HEADER.size or (crc32 is not None and zlib.crc32(chunk) != crc32):
            raise self._damaged(n)
        flags, n_item, found, n_block, n_packed, filters, codec, flags2 = _CHUNK_HEADER.unpack_from(chunk)
        is_written = flags & _EXTENDED == _EXTENDED and (filters, codec) in _CODECS
        if not is_written or n_item != self.dtype.itemsize or flags2 & _RUN > _MOST_RUNS:
            raise self._damaged(n)
        if (found, n_packed) != (n_bytes, len(chunk)) or not 0 < n_block <= n_bytes:
            raise self._damaged(n)

    def _damaged(self, n: int) -> PETError:
        return PETError(f"chunk {n} of {len(self._index)} ({self._place(n)}) is damaged; {_REMEDY}")

    def _corner(self, n: int) -> tuple[int, ...]:
        return tuple(int(i) * EDGE for i in np.unravel_index(n, self._grid))

    def _chunk_shape(self, n: int) -> tuple[int, ...]:
        return tuple(min(EDGE, size - c) for size, c in zip(self.shape, self._corner(n), strict=True))

    def _place(self, n: int) -> str:
        ranges = zip("XYZ", self._corner(n), self._chunk_shape(n), strict=True)
        return "voxels " + ", ".join(f"{axis} {c} to {c + size - 1}" for axis, c, size in ranges)

    def verify(self) -> None:
        """Compare the checksum of every chunk, whether it was touched before or not.

        Raises
        ------
        PETError
            If one is damaged.
        """
        with naming(self.path):
            for n, (offset, length, crc32) in enumerate(self._index.tolist()):
                self._check_chunk(os.pread(self._descriptor, length, offset), n, crc32)


def _read_description(text: bytes, *, n_chunks: int) -> tuple[tuple[int, int, int], np.dtype]:
    """Return shape and type of a volume, both such as are written."""
    try:
        description = json.loads(text)
        shape, dtype = tuple(description["shape"]), description["dtype"]
        is_shape = len(shape) == 3 and all(type(n) is int and 0 < n <= EDGE * n_chunks for n in shape)
        # The index, whose size is that of the file, bounds what a crop may ask for.
        is_written = is_shape and math.prod(-(-n // EDGE) for n in shape) == n_chunks and description["edge"] == EDGE
        if is_written and dtype in _DTYPES:
            return shape, np.dtype(dtype)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise PETError(f"its description was never written by this program; {_REMEDY}")
