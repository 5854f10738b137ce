"""FAPI-04, and where it goes an hour after injection."""

from pipeline.simulation.patient.tracers.table import NOT_SEEN, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["FAPI"]

_MU = "range of 20 patients with 18F-FAPI-04, Front Nucl Med 2022, doi 10.3389/fnume.2022.927843"
_KRATOCHWIL = "28 kinds of cancer, mean SUVmax from below 6 to above 12, J Nucl Med 2019;60:801, range customary"

FAPI = Tracer(
    name="FAPI-04",
    radionuclide="Ga-68",
    activity_per_mass=2.5e6,
    largest_activity=370e6,
    uptake_time=3600.0,
    administration_source="customary, 100 to 370 MBq and 10 to 60 min; FAPI-46 distributes alike",
    aliases=("FAPI", "FAPI04", "68Ga-FAPI-04", "FAPI-46", "FAPI46", "68Ga-FAPI-46"),
    bowel_variation=0.2,
    organs=organs(
        grey_matter=OrganUptake(0.15, 0.04, NOT_SEEN),
        white_matter=OrganUptake(0.12, 0.03, NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.15, 0.04, NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.15, 0.04, NOT_SEEN),
        spinal_cord=OrganUptake(0.5, 0.1, NOT_SEEN),
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
        bladder=OrganUptake(10.0, 7.5, URINE, skewed=True),
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
