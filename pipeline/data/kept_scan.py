"""The patches of one scan as two files: what is known of them as JSON, and their voxels, compressed with checksums.

Voxels are kept as 16 bits. The full dose is float16: 11 significant bits, up to SUV 65000. Lower doses have 10 of them,
rounded to the nearest: one part in 1000 at most, where the noise is tens of percent. What is smooth, the maps of the
noise and what a low dose changes of the label, is in whole steps of 1/4096, wider only where values exceed 7.8; the
differences between neighbours along three axes are kept, which need a fifth of the space.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.mixed_doses import mix_doses, mixing_weight, nearest_dose
from pipeline.data.store.volume_file import VolumeFile, write_volume
from pipeline.errors import PETError
from pipeline.files import replaced_file, write_json

__all__ = ["KeptScan", "write_scan"]

_LARGEST = 65000.0  # a little below that of float16
_LOST_BITS = 1  # of the 10 of a float16's fraction, in low doses
_STEP_EXPONENT = -12
_LARGEST_STEPS = 32000


def write_scan(scan: Mapping[str, Any], size: Sequence[int], path: Path, *, cut: bool = True) -> None:
    """Write the patches of a scan of every dose, as `PatchDataset` draws it, to a JSON file and a volume beside it.

    What was measured of the whole scan, tensors of no more than two dimensions, goes into the JSON file; not `cut`,
    nothing else is kept.

    Raises
    ------
    PETError
        If a file cannot be written, or an SUV is not finite or above 65000.
    """
    small = {
        key: value.to("cpu", torch.float64)
        for key, value in scan.items()
        if isinstance(value, torch.Tensor) and value.ndim < 3 and key != "voxel_size"
    }
    record: dict[str, Any] = {
        "subject": scan["subject"],
        "factors": list(scan["factors"]),
        "values": {key: _without_nan(value.tolist()) for key, value in small.items()},
    }
    if cut:
        images, labels = (scan[key].cpu() for key in ("images", "labels"))
        if not (images.isfinite().all() and float(images.abs().max()) < _LARGEST):
            raise PETError(f"{path}: scan of {scan['subject']} cannot be kept, expected finite SUV below {_LARGEST:g}")
        offsets = torch.cat([labels[:1] - images[:1], labels[1:] - labels[:1]])
        maps = {key: value.cpu() for key, value in scan.items() if key.endswith("noise_map")}
        starts = np.asarray(scan["starts"])
        record |= {"size": list(size), "steps": [_step_of(offsets), *map(_step_of, maps.values())], "maps": {}}
        rows = [_voxels(images, offsets, record["steps"][0], start, size) for start in starts]
        for (key, values), step in zip(maps.items(), record["steps"][1:], strict=True):
            cell = -(-images.shape[1] // values.shape[1])
            small_size = [n // cell for n in size]
            record["maps"][key] = [len(values), *small_size]
            rows += [_in_rows(_packed(_cut(values, start // cell, small_size), step), size) for start in starts]
        with replaced_file(path.with_suffix(".vol")) as temporary:
            record["index_crc32"] = write_volume(np.concatenate(rows), temporary, dense=True)
        record["n_patches"] = len(starts)
    write_json(path, record)


class KeptScan:
    """Reader of what `write_scan` wrote.

    Raises
    ------
    PETError
        If a file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            self.subject = str(record["subject"])
            self.factors = [float(factor) for factor in record["factors"]]
            self.values = {key: torch.tensor(_with_nan(value)) for key, value in record["values"].items()}
            self._file = None
            if "index_crc32" in record:
                self.n_patches = int(record["n_patches"])
                self._size = tuple(int(n) for n in record["size"])
                self._steps = [float(step) for step in record["steps"]]
                self._maps = {key: tuple(int(n) for n in shape) for key, shape in record["maps"].items()}
                self._file = VolumeFile(path.with_suffix(".vol"), index_crc32=record["index_crc32"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise PETError(f"{path}: is missing or damaged") from error

    def measured(self) -> dict[str, Any]:
        """Return what was measured of the whole scan, and whose it is."""
        return {**self.values, "subject": self.subject}

    def patch(self, place: int, *, dose: float | None = None) -> dict[str, Any]:
        """Return a patch at the dose that was drawn, with all that was measured, or at another one, without.

        Raises
        ------
        PETError
            If its voxels are damaged.
        """
        factor = float(self.values["dose_reduction_factor"]) if dose is None else dose
        low_factor = nearest_dose(self.factors, factor)
        n_doses, k = len(self.factors), self.factors.index(low_factor)
        first = place * 2 * n_doses
        full, low = (self._block(first + n).view(np.float16).astype(np.float32) for n in (0, k))
        offset, change = (_unpacked(self._block(first + n_doses + n), self._steps[0]) for n in (0, k))
        item: dict[str, Any] = {
            "image": torch.from_numpy(mix_doses(low, full, low_factor=low_factor, factor=factor))[None],
            "label": torch.from_numpy(full + offset + np.float32(mixing_weight(low_factor, factor)) * change)[None],
        }
        if dose is not None:
            return {**item, "dose_reduction_factor": torch.tensor(factor), "subject": self.subject}
        return {**item, **self.measured(), **self._noise_maps(place)}

    def _noise_maps(self, place: int) -> dict[str, torch.Tensor]:
        found = {}
        row = self.n_patches * 2 * len(self.factors) * self._size[0]
        for (key, shape), step in zip(self._maps.items(), self._steps[1:], strict=True):
            n_rows = _n_rows(shape, self._size)
            values = self._rows(row + place * n_rows, n_rows).reshape(-1)[: math.prod(shape)].reshape(shape)
            found[key] = torch.from_numpy(_unpacked(values, step))
            row += self.n_patches * n_rows
        return found

    def _block(self, n: int) -> NDArray[np.uint16]:
        return self._rows(n * self._size[0], self._size[0])

    def _rows(self, first: int, n: int) -> NDArray[np.uint16]:
        if self._file is None:
            raise PETError(f"{self.path}: holds no patches")
        return self._file[first : first + n]


def _voxels(
    images: torch.Tensor, offsets: torch.Tensor, step: float, start: NDArray[np.int64], size: Sequence[int]
) -> NDArray[np.uint16]:
    """Return the voxels of one patch, block behind block along X: doses, then what they change of the label."""
    doses = _cut(images, start, size).astype(np.float16)
    doses[1:] = _rounded(doses[1:])
    return np.concatenate([*doses.view(np.uint16), *_packed(_cut(offsets, start, size), step)])


def _cut(values: torch.Tensor, start: NDArray[np.int64], size: Sequence[int]) -> NDArray[np.float32]:
    box = tuple(slice(int(s), int(s) + n) for s, n in zip(start, size, strict=True))
    return values[(slice(None), *box)].numpy()


def _rounded(values: NDArray[np.float16]) -> NDArray[np.float16]:
    """Round to the nearest number of fewer bits, to an even one where two are as near."""
    bits: NDArray[np.uint16] = values.view(np.uint16)
    half = (1 << _LOST_BITS) // 2 - 1
    rounded = (bits + half + ((bits >> _LOST_BITS) & 1)) >> _LOST_BITS << _LOST_BITS
    return rounded.astype(np.uint16).view(np.float16)


def _step_of(values: torch.Tensor) -> float:
    """Return a power of two, in steps of which 15 bits hold the values."""
    largest = float(values.abs().max()) / _LARGEST_STEPS
    return 2.0 ** max(_STEP_EXPONENT, math.ceil(math.log2(largest)) if largest > 0 else _STEP_EXPONENT)


def _packed(values: NDArray[np.float32], step: float) -> NDArray[np.uint16]:
    """Return values (..., X, Y, Z) in steps, their differences along X, Y and Z, and those folded to small numbers."""
    steps = np.round(values / step).astype(np.int16)
    for axis in (-3, -2, -1):
        first = np.take(np.zeros_like(steps), [0], axis=axis)
        steps = np.diff(steps, axis=axis, prepend=first)  # beyond 16 bits it wraps around, and back
    return ((steps << 1) ^ (steps >> 15)).view(np.uint16)


def _unpacked(packed: NDArray[np.uint16], step: float) -> NDArray[np.float32]:
    if not packed.any():
        return np.zeros(packed.shape, dtype=np.float32)
    steps = (packed >> 1).astype(np.int16) ^ -(packed & 1).astype(np.int16)
    for axis in (-3, -2, -1):
        steps = np.cumsum(steps, axis=axis, dtype=np.int16)
    return steps.astype(np.float32) * np.float32(step)


def _n_rows(shape: Sequence[int], size: Sequence[int]) -> int:
    return -(-math.prod(shape) // (size[1] * size[2]))


def _in_rows(values: NDArray[np.uint16], size: Sequence[int]) -> NDArray[np.uint16]:
    """Return values as planes of the size of a patch's, filled up with 0."""
    rows = np.zeros((_n_rows(values.shape, size), size[1], size[2]), dtype=np.uint16)
    rows.reshape(-1)[: values.size] = values.reshape(-1)
    return rows


def _without_nan(values: Any) -> Any:
    """Return numbers, nested in lists, with None where there is none."""
    return [_without_nan(v) for v in values] if isinstance(values, list) else values if values == values else None


def _with_nan(values: Any) -> Any:
    return [_with_nan(v) for v in values] if isinstance(values, list) else math.nan if values is None else values
