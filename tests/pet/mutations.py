"""Break a PET series in one place after the other, and see that reading it gives a series or a `PETError`.

Run as a script, in a process of its own so that memory can be measured, it prints what it found as JSON::

    PYTHONPATH=. python tests/pet/mutations.py --first 0 --number 500

Mutation number n is the same in every run; ``--first n --number 1 --verbose`` repeats one.
"""

import argparse
import json
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from pipeline.pet import PETError, read_pet
from tests.series import STARTED, Scan, save_series, slices_of

TIME_LIMIT = 10
"""Longest time for one series [s]."""

ADDRESS_SPACE = 4 * 2**30
"""More than this is never handed out [bytes], so that a mutation cannot take the machine with it."""

LONGEST_MESSAGE = 1500
"""Characters that still read as one line, the folder's path included."""

NAME = "SECRET"
"""Patient's name, which no message may show."""

Mutation = Callable[[bytearray, random.Random], bytearray]

VALUE_REPRESENTATIONS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV"
).split()

LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
"""Value representations whose length takes four bytes, after two that are reserved."""

ABSURD = (
    b"NaN", b"nan", b"inf", b"-inf", b"-1", b"0", b"1e400", b"1e-400", b"9" * 16, b"1\\2", b"\\", b"0x10", b"", b"--",
    b"1e308", b"-0.0", b"\xff\xfe", b"\x00\x00", b"99999999", b"240000", b"20000230", b"1.2.3", b"BQML\\CNTS", b"%s%n",
    b"00000000000000", b"+9999", b"1/0", b" 7 ", b"\n\n", b"\x1b$B",
)  # fmt: skip
"""Texts for elements that hold numbers, dates, times or codes."""

TRANSFER_SYNTAXES = (
    b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2", b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.5",
    b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.70", b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.1", b"1.2.3",
)  # fmt: skip


# ------------------------------------------------------------------------------------------- elements of a file


def _elements(data: bytearray) -> list[tuple[int, bytes, int, int]]:
    """Return (start, VR, start of the value, length) of the top-level elements in Explicit VR Little Endian."""
    found, at = [], 132
    while at + 8 <= len(data):
        vr = bytes(data[at + 4 : at + 6])
        if vr in LONG:
            (length,) = struct.unpack_from("<I", data, at + 8)
            value = at + 12
        else:
            (length,) = struct.unpack_from("<H", data, at + 6)
            value = at + 8
        if vr not in VALUE_REPRESENTATIONS or length > len(data) - value:
            break
        found.append((at, vr, value, length))
        at = value + length
    return found


def _inner_elements(data: bytearray) -> list[tuple[int, bytes, int, int]]:
    """Return also the elements inside sequences of defined length, one level down."""
    found = _elements(data)
    for start, vr, value, length in list(found):
        if vr == b"SQ" and length > 8:
            prefix = bytearray(132)
            inner = _elements(prefix + data[value + 8 : value + length])
            found.extend((at - 132 + value + 8, r, v - 132 + value + 8, n) for at, r, v, n in inner)
        del start
    return found


def _replace_value(data: bytearray, element: tuple[int, bytes, int, int], content: bytes) -> bytearray:
    """Return the file with another value in an element, lengths of the element kept true."""
    start, vr, value, length = element
    if vr in LONG:
        head = data[start : start + 8] + struct.pack("<I", len(content))
    else:
        content = content[:65534]
        head = data[start : start + 6] + struct.pack("<H", len(content))
    return data[:start] + head + content + data[value + length :]


# ---------------------------------------------------------------------------------------------------- mutations


def flip_header(data: bytearray, rng: random.Random) -> bytearray:
    """Change single bytes before the pixels."""
    end = _elements(data)[-1][0]
    for _ in range(rng.randint(1, 6)):
        data[rng.randrange(128, end)] = rng.randrange(256)
    return data


def flip_anywhere(data: bytearray, rng: random.Random) -> bytearray:
    """Change single bits anywhere."""
    for _ in range(rng.randint(1, 20)):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    """Cut the file short."""
    return data[: rng.randrange(len(data))]


def delete_element(data: bytearray, rng: random.Random) -> bytearray:
    """Leave out an element."""
    start, _, value, length = rng.choice(_elements(data))
    return data[:start] + data[value + length :]


def absurd_value(data: bytearray, rng: random.Random) -> bytearray:
    """Give a text element a value that it should not have."""
    texts = [e for e in _inner_elements(data) if e[1] not in LONG and e[1] not in {b"US", b"SS", b"UL", b"FD"}]
    content = rng.choice(ABSURD)
    return _replace_value(data, rng.choice(texts), content + b" " * (len(content) % 2))


def absurd_number(data: bytearray, rng: random.Random) -> bytearray:
    """Give Rows, Columns, BitsAllocated or another binary number an extreme value."""
    _, _, value, length = rng.choice([e for e in _elements(data) if e[1] in {b"US", b"SS", b"UL"}])
    data[value : value + length] = rng.choice([b"\x00", b"\xff", b"\x01", b"\x80", b"\x7f"]) * length
    return data


def huge_length(data: bytearray, rng: random.Random) -> bytearray:
    """Say that an element is far longer than the file."""
    start, vr, _, _ = rng.choice(_elements(data))
    if vr in LONG:
        struct.pack_into("<I", data, start + 8, rng.choice([0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x10000000]))
    else:
        struct.pack_into("<H", data, start + 6, rng.choice([0xFFFF, 0xFFFE, 0x8000, 0x0FFF]))
    return data


def other_vr(data: bytearray, rng: random.Random) -> bytearray:
    """Give an element another value representation."""
    start = rng.choice(_inner_elements(data))[0]
    data[start + 4 : start + 6] = rng.choice(VALUE_REPRESENTATIONS)
    return data


def swap_values(data: bytearray, rng: random.Random) -> bytearray:
    """Give an element the value of another."""
    elements = _elements(data)[:-1]
    _, _, value, length = rng.choice(elements)
    return _replace_value(data, rng.choice(elements), bytes(data[value : value + length]))


def other_tag(data: bytearray, rng: random.Random) -> bytearray:
    """Give an element the tag of another, or any."""
    start = rng.choice(_elements(data))[0]
    source = rng.choice(_elements(data))[0]
    data[start : start + 4] = rng.choice([bytes(data[source : source + 4]), rng.randbytes(4)])
    return data


def nest(data: bytearray, rng: random.Random) -> bytearray:
    """Put sequences into sequences, hundreds deep, before the pixels or in an element's place."""
    depth = rng.choice([1, 3, 50, 400, 2000])
    tag = rng.choice([b"\x54\x00\x16\x00", b"\x08\x00\x40\x11", b"\x09\x00\x10\x10"])
    opened = (tag + b"SQ\x00\x00\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * depth
    closed = (b"\xfe\xff\x0d\xe0\x00\x00\x00\x00" + b"\xfe\xff\xdd\xe0\x00\x00\x00\x00") * depth
    start, _, value, length = rng.choice(_elements(data))
    end = rng.choice([start, value + length])
    return data[:start] + opened + (closed if rng.random() < 0.7 else b"") + data[end:]


def other_syntax(data: bytearray, rng: random.Random) -> bytearray:
    """Claim another transfer syntax."""
    (element,) = [e for e in _elements(data) if data[e[0] : e[0] + 4] == b"\x02\x00\x10\x00"]
    content = rng.choice(TRANSFER_SYNTAXES)
    return _replace_value(data, element, content + b"\x00" * (len(content) % 2))


def move_bytes(data: bytearray, rng: random.Random) -> bytearray:
    """Cut a piece out, and put it, or zeros, or noise, somewhere else."""
    start, size = rng.randrange(len(data)), rng.randint(1, 64)
    piece = rng.choice([bytes(data[start : start + size]), bytes(size), rng.randbytes(size)])
    del data[start : start + rng.choice([0, size])]
    at = rng.randrange(132, len(data) + 1)
    return data[:at] + piece + data[at:]


MUTATIONS: tuple[Mutation, ...] = (
    flip_header, flip_anywhere, truncate, delete_element, absurd_value, absurd_value, absurd_number, huge_length,
    other_vr, swap_values, other_tag, nest, other_syntax, move_bytes,
)  # fmt: skip


# ------------------------------------------------------------------------------------------------------- reading


def _series(folder: Path, scan: Scan, *, private: tuple[int, str, int, str, str] | None = None) -> Path:
    """Write three small slices of a scan."""
    slices = slices_of(scan)[:3]
    for dataset in slices:
        dataset.PatientName = dataset.PatientID = NAME
        dataset.NumberOfSlices = len(slices)
        if private is not None:
            group, creator, element, vr, value = private
            dataset.private_block(group, creator, create=True).add_new(element, vr, value)
    return save_series(slices, folder)


def _sound_series(folder: Path) -> list[Path]:
    """Write one series for each way in which SUV is computed."""
    philips = Scan(units="CNTS", manufacturer="Philips Medical Systems", units_per_count=3.75)
    return [
        _series(folder / "start", Scan()),
        _series(folder / "none", Scan(decay_correction="NONE")),
        _series(folder / "gml", Scan(units="GML", suv_type="LBMJAMES128")),
        _series(folder / "cnts", philips, private=(0x7053, "Philips PET Private Group", 0x09, "DS", "3.75")),
        _series(
            folder / "ge",
            Scan(manufacturer="GE MEDICAL SYSTEMS"),
            private=(0x0009, "GEMS_PETD_01", 0x0D, "DT", "20000517100000.00"),
        ),
        _series(
            folder / "siemens",
            Scan(corrected_to=STARTED),
            private=(0x0071, "SIEMENS MED PT", 0x22, "DT", "20000517100000.00"),
        ),
    ]


def _too_long(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"longer than {TIME_LIMIT} s")


def _leak(folder: Path, *, may_name: bool = False) -> str:
    """Read a series; say what came instead of a series or a fit `PETError`, or return ``""``.

    Parameters
    ----------
    folder
        The series.
    may_name
        Whether the patient's name was put where a name is not expected, so that it may be shown.
    """
    signal.alarm(TIME_LIMIT)
    try:
        read_pet(folder)
    except PETError as error:
        message = str(error)
        if NAME in message and not may_name:
            return f"message with the patient's name: {message[:300]!r}"
        if "\n" in message or len(message) > LONGEST_MESSAGE:
            return f"message of {len(message)} characters, {message.count(chr(10)) + 1} lines: {message[:300]!r}"
    except BaseException as error:  # noqa: BLE001 - anything that is raised is a finding
        step = error.__traceback__
        places = []
        while step is not None:
            places.append(f"{Path(step.tb_frame.f_code.co_filename).name}:{step.tb_lineno}")
            step = step.tb_next
        return f"{type(error).__name__}: {error} at {' > '.join(places[-10:])}"
    finally:
        signal.alarm(0)
    return ""


def run(first: int, number: int, *, verbose: bool = False) -> dict[str, object]:
    """Try mutations `first` to `first + number - 1`.

    Returns
    -------
    result
        ``leaks`` (number, mutation, what happened), ``slowest`` [s], and ``peak`` of the resident memory [bytes].
    """
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    signal.signal(signal.SIGALRM, _too_long)
    leaks: list[tuple[int, str, str]] = []
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folders = _sound_series(Path(name))
        held = [leak for leak in map(_leak, folders) if leak]
        if held:
            raise RuntimeError(f"a sound series is not read: {held[0]}")
        for n in range(first, first + number):
            rng = random.Random(n)
            folder = folders[n % len(folders)]
            path = sorted(folder.iterdir())[rng.randrange(3)]
            mutation = rng.choice(MUTATIONS)
            sound = path.read_bytes()
            path.write_bytes(mutation(bytearray(sound), rng))
            started = time.perf_counter()
            leak = _leak(folder, may_name=mutation in (swap_values, other_tag, move_bytes))
            slowest = max(slowest, time.perf_counter() - started)
            path.write_bytes(sound)
            if leak:
                leaks.append((n, mutation.__name__, leak))
            if verbose:
                print(n, folder.name, mutation.__name__, path.name, leak or "held", file=sys.stderr)
    return {"tried": number, "leaks": leaks, "slowest": slowest, "peak": _peak_memory()}


def _peak_memory() -> int:
    """Largest resident memory of this program [bytes]. What getrusage tells begins with that of the parent process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("the system does not tell the peak of the memory")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--number", type=int, default=500)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    print(json.dumps(run(options.first, options.number, verbose=options.verbose)))
