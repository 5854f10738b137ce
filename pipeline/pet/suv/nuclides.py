"""Positron emitters: half-lives, and the codes under which DICOM names them."""

import re

__all__ = ["HALF_LIFE", "NUCLIDE_OF_CODE", "nuclide_from_code", "nuclide_from_name"]

HALF_LIFE: dict[str, float] = {
    "C-11": 20.364 * 60,
    "N-13": 9.965 * 60,
    "O-15": 122.24,
    "F-18": 109.77 * 60,
    "Cu-62": 9.673 * 60,
    "Cu-64": 12.701 * 3600,
    "Ga-68": 67.71 * 60,
    "Rb-82": 1.2575 * 60,
    "Y-86": 14.74 * 3600,
    "Zr-89": 78.41 * 3600,
    "I-124": 4.1760 * 86400,
}
"""Half-life [s] of each nuclide. Source: evaluated nuclear structure data (ENSDF), NNDC NuDat 3."""

NUCLIDE_OF_CODE: dict[tuple[str, str], str] = {
    ("SCT", "40565003"): "C-11",
    ("SCT", "21576001"): "N-13",
    ("SCT", "129504001"): "O-15",
    ("SCT", "77004003"): "F-18",
    ("SCT", "422934004"): "Cu-62",
    ("SCT", "3932008"): "Cu-64",
    ("SCT", "35337001"): "Ga-68",
    ("SCT", "79197006"): "Rb-82",
    ("SCT", "10738001"): "Y-86",
    ("SCT", "63360001"): "Zr-89",
    ("SCT", "40937006"): "I-124",
    ("SRT", "C-105A1"): "C-11",
    ("SRT", "C-107A1"): "N-13",
    ("SRT", "C-B1038"): "O-15",
    ("SRT", "C-111A1"): "F-18",
    ("SRT", "C-127A5"): "Cu-62",
    ("SRT", "C-127A2"): "Cu-64",
    ("SRT", "C-131A3"): "Ga-68",
    ("SRT", "C-159A2"): "Rb-82",
    ("SRT", "C-162A3"): "Y-86",
    ("SRT", "C-168A4"): "Zr-89",
    ("SRT", "C-114A5"): "I-124",
}
"""Nuclide of (coding scheme, code value). Source: DICOM PS3.16 CID 4020, SNOMED CT and retired SNOMED RT."""

# Vendors write SNOMED RT under these designators (PS3.16 table 8-1; 99SDM is GE's).
_SNOMED_RT = {"SRT", "SNM3", "99SDM"}


def nuclide_from_code(scheme: str, value: str) -> str:
    """Return the nuclide, such as ``"F-18"``, that a RadionuclideCodeSequence item names, or ``""``.

    Parameters
    ----------
    scheme
        CodingSchemeDesignator (0008,0102).
    value
        CodeValue (0008,0100).
    """
    scheme = scheme.strip().upper()
    return NUCLIDE_OF_CODE.get(("SRT" if scheme in _SNOMED_RT else scheme, value.strip()), "")


def nuclide_from_name(name: str) -> str:
    """Return the nuclide that a text such as ``"F18"``, ``"18F"`` or ``"^18^Fluorine"`` names, or ``""``.

    Parameters
    ----------
    name
        CodeMeaning of the radionuclide, or PET-BIDS TracerRadionuclide.
    """
    letters = "".join(re.findall("[A-Za-z]+", name)).lower()
    digits = "".join(re.findall("[0-9]+", name))
    elements = {
        "carbon": "C",
        "nitrogen": "N",
        "oxygen": "O",
        "fluorine": "F",
        "copper": "Cu",
        "gallium": "Ga",
        "rubidium": "Rb",
        "yttrium": "Y",
        "zirconium": "Zr",
        "iodine": "I",
    }
    nuclide = f"{elements.get(letters, letters.capitalize())}-{digits}"
    return nuclide if nuclide in HALF_LIFE else ""
