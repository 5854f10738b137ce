"""Values of DICOM attributes as plain numbers and texts, or a refusal that names the attribute.

Among them are the private attributes that SUV may depend on: the reference times of GE and Siemens, the factors of
Philips. Sources: DICOM PS3.5 7.8 (private blocks); the vendors' DICOM conformance statements; QIBA pseudo-code (2012).
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import DT, TM

from pipeline.errors import PETError, naming
from pipeline.pet.suv.factor import ACTIVITY_PER_COUNT, SUV_PER_COUNT

__all__ = [
    "IDENTITY",
    "REFERENCE_TIMES",
    "SCALE_FACTORS",
    "PrivateAttribute",
    "check_agreement",
    "code_item",
    "number_of",
    "plain_text",
    "private_number",
    "private_value",
    "remove_all_private",
    "remove_private",
    "stored_value",
    "text_of",
    "value_of",
]

IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "OtherPatientNames", "PatientBirthName"),
    *("PatientMotherBirthName", "AccessionNumber", "ReferringPhysicianName", "PerformingPhysicianName"),
    *("OperatorsName", "NameOfPhysiciansReadingStudy", "InstitutionName"),
)
"""Attributes that tell who was scanned, or by whom, in a few words."""

MAX_TEXT = 1024
"""Characters of the longest text that is read (PS3.5 6.2, ST); most may have 64."""


@cache
def _tag(keyword: str) -> BaseTag:
    # Looking up a keyword takes as long as decoding most values.
    return Tag(keyword)


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return the value of an attribute, or None if it is absent or empty; bytes that do not decode are a `PETError`."""
    try:
        element = dataset.get(_tag(keyword))
        value = None if element is None else element.value
    except MemoryError:
        raise
    except Exception as error:
        raise PETError(f"{keyword} is damaged and cannot be decoded") from error
    if value and keyword.endswith("Sequence") and not isinstance(value, Items):
        raise PETError(f"{keyword} is damaged, it is not a sequence of items")
    return None if value is None or value == "" else value


def number_of(dataset: Dataset, keyword: str) -> float | None:
    """Return the value of an attribute that holds one number, or None if it is absent or empty.

    What is not one finite number is a `PETError`.
    """
    value = value_of(dataset, keyword)
    if value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise PETError(f"{keyword} is not a number") from error
    if not math.isfinite(number):
        raise PETError(f"{keyword} is {number}, expected a finite number")
    return number


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return the value of an attribute as a text, ``""`` if it is absent or empty.

    What is no text is a `PETError`, as when a damaged length makes an element swallow the ones after it. Those may name
    the patient, so that no message may show them.
    """
    value = value_of(dataset, keyword)
    if isinstance(value, Items):
        raise PETError(f"{keyword} is damaged, it is not a text")
    text = "" if value is None else str(value).strip()
    # str() of several values, or of bytes, shows a NUL by its escape.
    if len(text) > MAX_TEXT or "\0" in text or "\\x00" in text:
        raise PETError(f"{keyword} is damaged, it is not a text")
    return text


def plain_text(value: object) -> str:
    """Return a value as a text without padding, whether pydicom decoded it or kept its bytes; ``""`` if it is empty."""
    text = value.decode("ascii", errors="replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\0 \t\r\n")


def stored_value(dataset: Dataset, tag: BaseTag) -> Any:
    """Return what an element holds as pydicom keeps it, which is bytes until somebody has asked for the value.

    Decoding takes most of the time of reading a header. Two slices whose bytes are equal have equal values. An element
    that cannot be read is a `PETError`.
    """
    try:
        element = dataset.get_item(tag)
    except MemoryError:
        raise
    except Exception as error:
        raise PETError(f"element {tag} is damaged and cannot be read") from error
    return None if element is None else element.value


def code_item(value: str, scheme: str, meaning: str) -> Dataset:
    """Return one item of a code sequence (DICOM PS3.3 8.8)."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return code


@dataclass(frozen=True)
class PrivateAttribute:
    """Where a vendor keeps one value."""

    name: str
    """What to call it in a sentence."""

    group: int
    element: int
    """Last byte of the element number; the first is that of the block."""

    creator: str
    """Private creator, the name that reserves the block."""

    vendor: str
    """Word of Manufacturer (0008,0070) by which the vendor is known."""

    @property
    def default_tag(self) -> tuple[int, int]:
        """Tag in block 10, which every one of these vendors uses."""
        return self.group, 0x1000 + self.element


REFERENCE_TIMES = (
    PrivateAttribute("Siemens private (0071,1022)", 0x0071, 0x22, "SIEMENS MED PT", "SIEMENS"),
    PrivateAttribute("GE private (0009,100d)", 0x0009, 0x0D, "GEMS_PETD_01", "GE"),
)
"""Moments of decay correction, in the order in which they are believed."""

SCALE_FACTORS = (
    PrivateAttribute(SUV_PER_COUNT, 0x7053, 0x00, "Philips PET Private Group", "PHILIPS"),
    PrivateAttribute(ACTIVITY_PER_COUNT, 0x7053, 0x09, "Philips PET Private Group", "PHILIPS"),
)
"""SUVbw [g/mL], and activity concentration [Bq/mL], per count."""


def private_value(dataset: Dataset, attribute: PrivateAttribute) -> object | None:
    """Return the value of a vendor's private element, also where the private creator was lost.

    De-identification may drop the element that names the creator: then block 10 of that vendor's own series is
    read, unless somebody else has reserved it. Bytes that do not decode are a `PETError`.
    """
    is_vendors = attribute.vendor in text_of(dataset, "Manufacturer").upper().split()
    try:
        try:
            return dataset.private_block(attribute.group, attribute.creator)[attribute.element].value
        except KeyError:
            pass
        if not is_vendors or (attribute.group, 0x10) in dataset:
            return None
        found = dataset.get(attribute.default_tag)
    except MemoryError:
        raise
    except Exception as error:
        raise PETError(f"{attribute.name} is damaged and cannot be decoded") from error
    return None if found is None else found.value


def remove_private(dataset: Dataset, attribute: PrivateAttribute) -> None:
    """Remove a vendor's private element, whichever block it is in."""
    try:
        del dataset.private_block(attribute.group, attribute.creator)[attribute.element]
    except KeyError:
        if (attribute.group, 0x10) not in dataset:
            dataset.pop(attribute.default_tag, None)


def remove_all_private(dataset: Dataset) -> None:
    """Remove every private element, in the items of sequences, too; bytes that do not decode are a `PETError`."""
    try:
        dataset.remove_private_tags()
    except MemoryError:
        raise
    except Exception as error:
        raise PETError("an attribute is damaged and cannot be decoded") from error


def private_number(dataset: Dataset, attribute: PrivateAttribute) -> float | None:
    """Return a vendor's private number, or None where it is absent, empty or 0, which means not used.

    What is not a positive number is a `PETError`.
    """
    text = plain_text(private_value(dataset, attribute))
    if not text:
        return None
    try:
        number = float(text)
    except ValueError as error:
        raise PETError(f"{attribute.name} is not a number") from error
    if not math.isfinite(number) or number < 0:
        raise PETError(f"{attribute.name} is {number:g}, expected a positive number")
    return number or None


# --------------------------------------------------------------------- what one series has one value of


@dataclass(frozen=True)
class _Uniform:
    """An attribute that one series has one value of."""

    name: str
    read: Callable[[Dataset], object]
    """Its value, the same in whatever characters it is written."""

    tags: tuple[BaseTag, ...]
    """Elements that hold it: where all their bytes are equal, the values are, and nothing need be decoded."""

    may_show: bool = False
    """Whether an error may show the value; one that identifies a person is compared, never shown."""

    def has_equal_bytes(self, slices: Sequence[Dataset]) -> bool:
        """Return whether all slices store the same bytes; False if one is decoded already."""
        first = [stored_value(slices[0], tag) for tag in self.tags]
        if any(isinstance(value, Items) for value in first):
            return False
        return all([stored_value(dataset, tag) for tag in self.tags] == first for dataset in slices)


def _number(dataset: Dataset, keyword: str) -> object:
    try:
        return number_of(dataset, keyword)
    except PETError:
        return text_of(dataset, keyword)


def _moment(parse: type[DT] | type[TM], dataset: Dataset, keyword: str) -> object:
    text = text_of(dataset, keyword)
    try:
        return parse(text).isoformat() if text else None
    except (ValueError, TypeError):
        return text


_SHOWN = ("Units", "SUVType", "DecayCorrection", "CorrectedImage", "SeriesType", "Manufacturer", "PatientSex")
_HIDDEN = ("PatientID", "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesDate")
_READERS: dict[str, Callable[[Dataset, str], object]] = {
    **dict.fromkeys(("PatientWeight", "PatientSize", "RadionuclideTotalDose", "RadionuclideHalfLife"), _number),
    **dict.fromkeys(("SeriesTime", "RadiopharmaceuticalStartTime"), partial(_moment, TM)),
    **dict.fromkeys(("DecayCorrectionDateTime", "RadiopharmaceuticalStartDateTime"), partial(_moment, DT)),
}
"""How attributes are read that can be written in several ways; those of Radio... stand in the item of a sequence."""


def _uniform(keyword: str) -> _Uniform:
    read, may_show = _READERS.get(keyword, text_of), keyword in _SHOWN or _READERS.get(keyword) is _number
    if not keyword.startswith("Radio"):
        return _Uniform(keyword, lambda dataset: read(dataset, keyword), (Tag(keyword),), may_show)
    sequence = "RadiopharmaceuticalInformationSequence"
    return _Uniform(
        keyword,
        lambda dataset: [read(item, keyword) for item in value_of(dataset, sequence) or []],
        (Tag(sequence),),
        may_show,
    )


_UNIFORM = (
    *(_uniform(keyword) for keyword in (*_HIDDEN, *_SHOWN, *_READERS)),
    *(
        _Uniform(
            attribute.name,
            partial(lambda attribute, dataset: private_value(dataset, attribute), attribute),
            # The element in each of the blocks that the creator may have reserved, and their creators.
            tuple(
                Tag(attribute.group, element)
                for block in range(0x10, 0x14)
                for element in (block, (block << 8) + attribute.element)
            ),
        )
        for attribute in (*REFERENCE_TIMES, *SCALE_FACTORS)
    ),
)


def check_agreement(slices: Sequence[Dataset], names: Sequence[str]) -> None:
    """Check that slices agree in everything that one series has one value of, in whatever characters it is written.

    `slices` are the headers, and `names` their file names. The `PETError` names the first slice that differs, and in
    what.
    """
    for attribute in _UNIFORM:
        if attribute.has_equal_bytes(slices):
            continue
        values = []
        for dataset, name in zip(slices, names, strict=True):
            with naming(name):
                values.append(attribute.read(dataset))
        counts = Counter(map(str, values))
        if len(counts) == 1:
            continue
        expected, n_expected = counts.most_common(1)[0]
        odd = next(k for k, value in enumerate(values) if str(value) != expected)
        if attribute.may_show:
            difference = f"{attribute.name} is {str(values[odd])!r}, expected {expected!r}"
        else:
            difference = f"another {attribute.name}, expected the one"
        raise PETError(f"{names[odd]}: {difference} as in {n_expected} of {len(slices)} files")
