"""The tracers that can be simulated: FDG, PSMA-11, DOTATATE and FAPI, with the source of every value.

Where a publication gives the maximum of an organ, its mean is taken as 0.6 of that: the liver, spleen and
kidneys of PSMA-11 then have the means that are customary (5, 7 and 40).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pipeline.errors import PETError
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["DOTATATE", "FAPI", "FDG", "PSMA_11", "TRACERS", "tracer_named"]

_CUSTOMARY = "customary reading-room value, not traced to one publication"
_NOT_SEEN = "customary: at or below background, not traced to one publication"
_URINE = "customary: varies with hydration and voiding, not traced to one publication"
_WANG = "SUV atlas of 98 patients, Mol Imaging Biol 2007;9:83, doi 10.1007/s11307-006-0075-y"
_LIU = "343 normal livers, 1.9 +- 0.4, Iran J Radiol 2019;16:e84881, doi 10.5812/iranjradiol.84881"
_KIRCHNER = "0.6 of the SUVmax in 55 men, Clin Nucl Med 2017;42(7), Practical Interpretation Hurdles in 68Ga-PSMA PET"
_KUYUMCU = "0.6 of the mean SUVmax in 120 patients, Ann Nucl Med 2013, doi 10.1007/s12149-013-0718-4, spread customary"
_POEPPEL = "spread of 40 patients, 12.7 +- 3.0 at most, J Nucl Med 2011;52:1864"
_MU = "range of 20 patients with 18F-FAPI-04, Front Nucl Med 2022, doi 10.3389/fnume.2022.927843"
_KRATOCHWIL = "28 kinds of cancer, mean SUVmax from below 6 to above 12, J Nucl Med 2019;60:801, range customary"


def _organs(**values: tuple[float, float] | OrganUptake) -> Mapping[str, OrganUptake]:
    """Return a table of organs; a pair of mean and standard deviation is a customary value."""
    return {k: v if isinstance(v, OrganUptake) else OrganUptake(*v, source=_CUSTOMARY) for k, v in values.items()}


FDG = Tracer(
    name="FDG",
    radionuclide="F-18",
    activity_per_mass=3.5e6,
    largest_activity=530e6,
    uptake_time=3600.0,
    administration_source="customary; uptake time of the EANM guideline, Eur J Nucl Med Mol Imaging 2015;42:328",
    aliases=("FDG", "18F-FDG", "F-18 FDG", "fluorodeoxyglucose"),
    bowel_variation=0.55,
    organs=_organs(
        grey_matter=(9.0, 1.8),
        white_matter=OrganUptake(3.2, 0.7, _CUSTOMARY, follows="grey_matter"),
        cerebellum=OrganUptake(8.0, 1.6, f"{_WANG}, 8.0 +- 2.2, spread narrowed to that of grey matter", "grey_matter"),
        cerebrospinal_fluid=(0.6, 0.1),
        spinal_cord=(1.1, 0.2),
        pituitary=(2.5, 0.6),
        eye_muscle=(2.3, 0.5),
        lacrimal=(1.2, 0.3),
        parotid=(2.0, 0.6),
        submandibular=(2.1, 0.6),
        sublingual=OrganUptake(3.3, 1.5, _WANG),
        tonsil=OrganUptake(3.45, 1.4, _WANG),
        thyroid=(1.4, 0.4),
        blood=(1.7, 0.3),
        myocardium=OrganUptake(4.0, 3.4, "customary: 1 to 12 with fasting, not traced to one publication", skewed=True),
        lung=(0.45, 0.12),
        hilum=(1.8, 0.3),
        oesophagus=(1.1, 0.2),
        # Between the only figure with a publication, 1.9, and the customary 2.3.
        liver=OrganUptake(2.1, 0.4, f"middle of the customary 2.3 and of {_LIU}"),
        gallbladder=(0.6, 0.2),
        spleen=(1.9, 0.35),
        kidney=(2.6, 0.6),
        renal_pelvis=OrganUptake(6.5, 4.3, _URINE, skewed=True),
        pancreas=(1.5, 0.3),
        adrenal=(1.5, 0.4),
        stomach=(2.0, 0.6),
        duodenum=(1.6, 0.5),
        small_bowel=(1.3, 0.5),
        colon=(1.5, 0.6),
        bladder=OrganUptake(19.0, 12.5, _URINE, skewed=True),
        uterus=(1.8, 0.6),
        ovary=(1.7, 0.4),
        prostate=(1.6, 0.4),
        testis=OrganUptake(2.57, 0.56, _WANG),
        breast=(0.7, 0.25),
        marrow=(1.5, 0.4),
        cortical_bone=(0.5, 0.15),
        muscle=(0.65, 0.12),
        fat=(0.28, 0.08),
        skin=(0.8, 0.1),
    ),
    lesion_sites={
        "lung": LesionSite(0.22, 1.5, 20.0, _CUSTOMARY),
        "liver": LesionSite(0.22, 3.0, 20.0, _CUSTOMARY),
        "bone": LesionSite(0.22, 2.0, 20.0, _CUSTOMARY),
        "node": LesionSite(0.22, 2.0, 25.0, _CUSTOMARY),
        "soft": LesionSite(0.12, 2.0, 25.0, _CUSTOMARY),
    },
)
"""FDG, 60 minutes after injection: brain, heart and urine."""

PSMA_11 = Tracer(
    name="PSMA-11",
    radionuclide="Ga-68",
    activity_per_mass=2.0e6,
    largest_activity=260e6,
    uptake_time=3600.0,
    administration_source="1.8 to 2.2 MBq/kg and 60 min: EANM and SNMMI, Eur J Nucl Med Mol Imaging 2017;44:1014",
    aliases=("PSMA", "PSMA11", "68Ga-PSMA-11", "Ga-68 PSMA-11", "gozetotide"),
    sexes=("M",),
    bowel_variation=0.6,
    organs=_organs(
        grey_matter=OrganUptake(0.25, 0.06, _NOT_SEEN),
        white_matter=OrganUptake(0.15, 0.04, _NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.25, 0.06, _NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.2, 0.05, _NOT_SEEN),
        spinal_cord=OrganUptake(0.5, 0.1, _NOT_SEEN),
        pituitary=(1.0, 0.3),
        eye_muscle=OrganUptake(0.8, 0.2, _NOT_SEEN),
        lacrimal=OrganUptake(9.4, 4.3, f"{_KIRCHNER}, 15.7 +- 7.2", skewed=True),
        parotid=OrganUptake(14.6, 4.9, f"{_KIRCHNER}, 24.4 +- 8.1"),
        submandibular=OrganUptake(16.0, 4.3, f"{_KIRCHNER}, 26.7 +- 7.1"),
        sublingual=(7.0, 2.5),
        tonsil=OrganUptake(6.2, 2.6, f"{_KIRCHNER}, 10.4 +- 4.3"),
        thyroid=(1.3, 0.4),
        blood=(1.5, 0.35),
        myocardium=(1.5, 0.35),
        lung=(0.45, 0.12),
        hilum=(1.2, 0.3),
        oesophagus=(1.5, 0.4),
        liver=OrganUptake(4.9, 1.1, f"{_KIRCHNER}, 8.2 +- 2.5; spread of 22 % as in Cancer Imaging 2019;19:23"),
        gallbladder=OrganUptake(3.0, 2.0, _CUSTOMARY, skewed=True),
        spleen=OrganUptake(6.5, 2.3, f"{_KIRCHNER}, 10.9 +- 3.9", skewed=True),
        kidney=OrganUptake(39.8, 15.2, f"{_KIRCHNER}, 66.4 +- 25.4", skewed=True),
        renal_pelvis=OrganUptake(30.0, 15.0, _URINE, skewed=True),
        pancreas=(2.2, 0.6),
        adrenal=(3.5, 1.0),
        stomach=(2.2, 0.7),
        duodenum=OrganUptake(10.6, 5.3, f"{_KIRCHNER}, 17.6 +- 8.9", skewed=True),
        small_bowel=(4.5, 1.5),
        colon=(2.0, 0.7),
        bladder=OrganUptake(25.0, 20.0, _URINE, skewed=True),
        uterus=(1.5, 0.4),
        ovary=(1.3, 0.3),
        prostate=(3.0, 1.0),
        testis=(1.2, 0.3),
        breast=(0.7, 0.2),
        marrow=(0.6, 0.2),
        cortical_bone=(0.3, 0.1),
        muscle=(0.6, 0.12),
        fat=(0.3, 0.08),
        skin=(0.6, 0.1),
    ),
    lesion_sites={
        "prostate": LesionSite(0.12, 5.0, 60.0, _CUSTOMARY),
        "node": LesionSite(0.36, 3.0, 60.0, _CUSTOMARY),
        "bone": LesionSite(0.36, 3.0, 60.0, _CUSTOMARY),
        "lung": LesionSite(0.08, 1.5, 20.0, _CUSTOMARY),
        "liver": LesionSite(0.08, 6.0, 40.0, _CUSTOMARY),
    },
)
"""PSMA-11, 60 minutes after injection: kidneys, salivary and lacrimal glands, duodenum; men only."""

DOTATATE = Tracer(
    name="DOTATATE",
    radionuclide="Ga-68",
    activity_per_mass=2.0e6,
    largest_activity=200e6,
    uptake_time=3600.0,
    administration_source="2 MBq/kg up to 200 MBq, 40 to 90 min: prescribing information of Ga-68 dotatate",
    aliases=("DOTA-TATE", "68Ga-DOTATATE", "Ga-68 DOTATATE", "dotatate"),
    bowel_variation=0.35,
    organs=_organs(
        grey_matter=OrganUptake(0.2, 0.05, _NOT_SEEN),
        white_matter=OrganUptake(0.15, 0.04, _NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.2, 0.05, _NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.2, 0.05, _NOT_SEEN),
        spinal_cord=OrganUptake(0.4, 0.1, _NOT_SEEN),
        pituitary=OrganUptake(5.8, 2.0, f"{_KUYUMCU}, 9.74"),
        eye_muscle=OrganUptake(0.7, 0.2, _NOT_SEEN),
        lacrimal=(1.5, 0.5),
        parotid=(1.8, 0.6),
        submandibular=(2.0, 0.6),
        sublingual=(1.5, 0.5),
        tonsil=(2.2, 0.7),
        thyroid=(2.3, 0.8),
        blood=(1.3, 0.3),
        myocardium=(1.4, 0.3),
        lung=(0.4, 0.1),
        hilum=(1.1, 0.3),
        oesophagus=(1.2, 0.3),
        liver=OrganUptake(5.5, 1.4, f"{_KUYUMCU}, 9.12"),
        gallbladder=(1.5, 0.5),
        spleen=OrganUptake(14.8, 4.4, f"{_KUYUMCU}, 24.67"),
        kidney=OrganUptake(8.6, 2.0, f"{_KUYUMCU}, 14.30; {_POEPPEL}"),
        renal_pelvis=OrganUptake(14.0, 8.0, _URINE, skewed=True),
        pancreas=(3.2, 1.0),
        adrenal=OrganUptake(8.2, 2.5, f"{_KUYUMCU}, 13.73"),
        stomach=(3.2, 1.0),
        duodenum=(4.0, 1.2),
        small_bowel=(2.6, 0.8),
        colon=(1.7, 0.5),
        bladder=OrganUptake(13.0, 10.0, _URINE, skewed=True),
        uterus=(1.9, 0.5),
        ovary=(1.4, 0.4),
        prostate=(2.6, 0.8),
        testis=(1.3, 0.3),
        breast=(0.8, 0.2),
        marrow=(0.9, 0.25),
        cortical_bone=(0.4, 0.1),
        muscle=(0.7, 0.15),
        fat=(0.25, 0.07),
        skin=(0.6, 0.1),
    ),
    lesion_sites={
        "liver": LesionSite(0.42, 9.0, 60.0, f"{_KUYUMCU}: tumours in the liver had 28.7 at most, range customary"),
        "node": LesionSite(0.25, 3.0, 50.0, f"{_KUYUMCU}: nodes had 12.6 at most, range customary"),
        "bone": LesionSite(0.20, 3.0, 50.0, f"{_KUYUMCU}: bone had 18.3 at most, range customary"),
        "soft": LesionSite(0.08, 3.0, 50.0, f"{_POEPPEL}: tumours had 16 +- 11 at most, range customary"),
        "lung": LesionSite(0.05, 2.0, 20.0, _CUSTOMARY),
    },
)
"""DOTATATE, 60 minutes after injection: spleen, kidneys, adrenals, pituitary, liver."""

FAPI = Tracer(
    name="FAPI-04",
    radionuclide="Ga-68",
    activity_per_mass=2.5e6,
    largest_activity=370e6,
    uptake_time=3600.0,
    administration_source="customary, 100 to 370 MBq and 10 to 60 min; FAPI-46 distributes alike",
    aliases=("FAPI", "FAPI04", "68Ga-FAPI-04", "FAPI-46", "FAPI46", "68Ga-FAPI-46"),
    bowel_variation=0.2,
    organs=_organs(
        grey_matter=OrganUptake(0.15, 0.04, _NOT_SEEN),
        white_matter=OrganUptake(0.12, 0.03, _NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.15, 0.04, _NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.15, 0.04, _NOT_SEEN),
        spinal_cord=OrganUptake(0.5, 0.1, _NOT_SEEN),
        pituitary=(1.2, 0.3),
        eye_muscle=(1.2, 0.3),
        lacrimal=(1.2, 0.3),
        parotid=(1.6, 0.5),
        submandibular=OrganUptake(3.0, 0.8, f"{_MU}: with gallbladder, uterus and renal pelvis 2.9 to 4.2"),
        sublingual=(1.8, 0.5),
        tonsil=(1.6, 0.4),
        thyroid=(1.6, 0.6),
        blood=(1.4, 0.3),
        myocardium=(1.3, 0.3),
        lung=(0.45, 0.12),
        hilum=(1.2, 0.3),
        oesophagus=(1.3, 0.3),
        liver=(0.9, 0.25),
        gallbladder=OrganUptake(3.5, 3.0, f"{_MU}: 2.9 to 4.2 with uterus; spread customary", skewed=True),
        spleen=(1.0, 0.3),
        kidney=(1.9, 0.5),
        renal_pelvis=OrganUptake(3.5, 1.5, f"{_MU}: 2.9 to 4.2 with gallbladder and uterus", skewed=True),
        pancreas=(1.8, 0.6),
        adrenal=(1.2, 0.3),
        stomach=(1.1, 0.3),
        duodenum=(1.2, 0.3),
        small_bowel=(1.1, 0.3),
        colon=(0.9, 0.25),
        bladder=OrganUptake(10.0, 7.5, _URINE, skewed=True),
        uterus=OrganUptake(4.2, 1.6, f"{_MU}: at the upper end of 2.9 to 4.2; spread customary"),
        ovary=(1.4, 0.4),
        prostate=(1.7, 0.5),
        testis=(1.2, 0.3),
        breast=(0.9, 0.3),
        marrow=OrganUptake(0.6, 0.18, f"{_MU}: bones 0.3 to 0.7"),
        cortical_bone=OrganUptake(0.4, 0.12, f"{_MU}: bones 0.3 to 0.7"),
        muscle=OrganUptake(1.1, 0.25, f"{_MU}: soft tissues 0.9 to 1.5"),
        fat=(0.4, 0.1),
        skin=(0.8, 0.15),
    ),
    lesion_sites={
        "lung": LesionSite(0.20, 2.0, 25.0, _KRATOCHWIL),
        "liver": LesionSite(0.25, 2.0, 25.0, _KRATOCHWIL),
        "bone": LesionSite(0.20, 2.0, 25.0, _KRATOCHWIL),
        "node": LesionSite(0.20, 2.0, 25.0, _KRATOCHWIL),
        "soft": LesionSite(0.15, 2.0, 25.0, _KRATOCHWIL),
    },
)
"""FAPI-04 (FAPI-46 alike), 60 minutes after injection: low everywhere but urine, uterus and gallbladder."""

TRACERS = (FDG, PSMA_11, DOTATATE, FAPI)
"""Every tracer that can be simulated."""


def tracer_named(name: str) -> Tracer:
    """Return the tracer of a name or an alias, such as ``"FDG"``, ``"PSMA"`` or ``"68Ga-DOTATATE"``.

    Case, spaces and punctuation do not matter.

    Raises
    ------
    PETError
        If there is none of that name.
    """

    def plain(text: str) -> str:
        return re.sub("[^a-z0-9]", "", text.lower())

    for tracer in TRACERS:
        if plain(name) in {plain(alias) for alias in (tracer.name, *tracer.aliases)}:
            return tracer
    raise PETError(f"tracer {name!r} is not known, expected one of {', '.join(t.name for t in TRACERS)}")
