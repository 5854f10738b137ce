"""Nuclides that PET and SPECT use: half-lives, the codes under which DICOM names them, and which emit positrons."""

import re

__all__ = [
    "ANY_HALF_LIFE",
    "HALF_LIFE",
    "NUCLIDE_OF_CODE",
    "POSITRON_WARNINGS",
    "is_positron_emitter",
    "nuclide_from_name",
]

_POSITRON_EMITTERS: dict[str, tuple[float, str, str]] = {
    "C-11": (20.364 * 60, "40565003", "C-105A1"),
    "N-13": (9.965 * 60, "21576001", "C-107A1"),
    "O-15": (122.24, "129504001", "C-B1038"),
    "F-18": (109.77 * 60, "77004003", "C-111A1"),
    "Mn-52": (5.591 * 86400, "37225000", "C-149A1"),
    "Cu-60": (23.7 * 60, "425364008", "C-127A4"),
    "Cu-61": (3.339 * 3600, "71425003", "C-127A1"),
    "Cu-62": (9.673 * 60, "422934004", "C-127A5"),
    "Cu-64": (12.701 * 3600, "3932008", "C-127A2"),
    "Ga-66": (9.49 * 3600, "79477007", "C-131A1"),
    "Ga-68": (67.71 * 60, "35337001", "C-131A3"),
    "Br-76": (16.2 * 3600, "79523006", "C-113A2"),
    "Rb-82": (1.2575 * 60, "79197006", "C-159A2"),
    "Y-86": (14.74 * 3600, "10738001", "C-162A3"),
    "Zr-89": (78.41 * 3600, "63360001", "C-168A4"),
    "Y-90": (64.05 * 3600, "14691008", "C-162A7"),
    "I-124": (4.1760 * 86400, "40937006", "C-114A5"),
}
"""Half-life [s], SNOMED CT code and retired SNOMED RT code; Y-90 makes 32 positrons in a million decays, and is imaged
by them. Sources: evaluated nuclear structure data (ENSDF), NNDC NuDat 3; DICOM PS3.16 CID 4020."""

_OTHERS: dict[str, tuple[float, str, str]] = {
    "P-32": (14.268 * 86400, "32505007", "C-106A1"),
    "Cr-51": (27.704 * 86400, "52745005", "C-129A2"),
    "Ga-67": (3.2617 * 86400, "2008008", "C-131A2"),
    "Cu-67": (61.83 * 3600, "53700003", "C-127A3"),
    "Kr-81m": (13.10, "61716009", "C-173A5"),
    "Sr-89": (50.563 * 86400, "7770004", "C-158A6"),
    "Tc-99m": (6.0072 * 3600, "72454006", "C-163A8"),
    "In-111": (2.8047 * 86400, "56609000", "C-145A4"),
    "I-123": (13.2234 * 3600, "21572004", "C-114A4"),
    "I-125": (59.392 * 86400, "68630002", "C-114A6"),
    "I-131": (8.0252 * 86400, "1368003", "C-114B1"),
    "Xe-133": (5.2475 * 86400, "80751004", "C-172A8"),
    "Sm-153": (46.284 * 3600, "419804008", "C-B1134"),
    "Lu-177": (6.6443 * 86400, "447553000", "C-101ED"),
    "Re-186": (3.7186 * 86400, "395865006", "C-11906"),
    "Re-188": (17.005 * 3600, "423578007", "C-1018D"),
    "Tl-201": (3.0421 * 86400, "60057003", "C-138A9"),
    "Ra-223": (11.43 * 86400, "24853006", "C-136A2"),
}
"""The same of nuclides of SPECT and therapy (CID 18): an image of one is no PET, even if it is stored as PET."""

HALF_LIFE = {nuclide: row[0] for nuclide, row in _POSITRON_EMITTERS.items()}
"""Half-life [s] of each positron emitter."""

ANY_HALF_LIFE = {nuclide: row[0] for nuclide, row in (_POSITRON_EMITTERS | _OTHERS).items()}
"""Half-life [s] of every nuclide that a code or a name can give."""

POSITRON_WARNINGS: dict[str, tuple[str, ...]] = {
    nuclide: (f"{nuclide} emits no positrons: this is no PET, although it is stored as PET.",) for nuclide in _OTHERS
}
"""For each nuclide without positrons, what a person should be told about its image."""

# Vendors write SNOMED RT under three designators (PS3.16 table 8-1; 99SDM is GE's).
NUCLIDE_OF_CODE: dict[tuple[str, str], str] = {
    (scheme, code): nuclide
    for nuclide, (_, snomed_ct, snomed_rt) in (_POSITRON_EMITTERS | _OTHERS).items()
    for scheme, code in (("SCT", snomed_ct), ("SRT", snomed_rt), ("SNM3", snomed_rt), ("99SDM", snomed_rt))
}
"""Nuclide, such as ``"F-18"``, of (coding scheme designator, code value) of a RadionuclideCodeSequence item."""

_SYMBOLS: dict[str, str] = dict(
    re.findall(
        r"(\w+) (\w+)",
        "carbon C, nitrogen N, oxygen O, fluorine F, phosphorus P, chromium Cr, manganese Mn, copper Cu, gallium Ga, "
        "bromine Br, krypton Kr, rubidium Rb, strontium Sr, yttrium Y, zirconium Zr, technetium Tc, indium In, "
        "iodine I, xenon Xe, samarium Sm, lutetium Lu, rhenium Re, thallium Tl, radium Ra",
    )
)


def nuclide_from_name(name: str) -> str:
    """Return the nuclide that a text such as ``"F18"``, ``"99mTc"`` or ``"^18^Fluorine"`` names, or ``""``.

    The text is CodeMeaning of the radionuclide, or PET-BIDS TracerRadionuclide.
    """
    mass = re.search(r"\d+(m(?![a-z]))?", name)
    if mass is None:
        return ""
    element = "".join(re.findall("[A-Za-z]+", name.replace(mass[0], " "))).lower()
    nuclide = f"{_SYMBOLS.get(element, element.capitalize())}-{mass[0]}"
    return nuclide if nuclide in ANY_HALF_LIFE else ""


def is_positron_emitter(nuclide: str) -> bool | None:
    """Return whether a nuclide such as ``"F-18"`` emits positrons; None if the nuclide is not known."""
    return nuclide in HALF_LIFE if nuclide in ANY_HALF_LIFE else None
