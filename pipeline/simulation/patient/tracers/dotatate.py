"""DOTATATE, and where it goes an hour after injection."""

from pipeline.simulation.patient.tracers.table import CUSTOMARY, NOT_SEEN, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["DOTATATE"]

_KUYUMCU = "0.6 of the mean SUVmax in 120 patients, Ann Nucl Med 2013, doi 10.1007/s12149-013-0718-4, spread customary"
_POEPPEL = "spread of 40 patients, 12.7 +- 3.0 at most, J Nucl Med 2011;52:1864"

DOTATATE = Tracer(
    name="DOTATATE",
    radionuclide="Ga-68",
    activity_per_mass=2.0e6,
    largest_activity=200e6,
    uptake_time=3600.0,
    administration_source="2 MBq/kg up to 200 MBq, 40 to 90 min: prescribing information of Ga-68 dotatate",
    aliases=("DOTA-TATE", "68Ga-DOTATATE", "Ga-68 DOTATATE", "dotatate"),
    bowel_variation=0.35,
    organs=organs(
        grey_matter=OrganUptake(0.2, 0.05, NOT_SEEN),
        white_matter=OrganUptake(0.15, 0.04, NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.2, 0.05, NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.2, 0.05, NOT_SEEN),
        spinal_cord=OrganUptake(0.4, 0.1, NOT_SEEN),
        pituitary=OrganUptake(5.8, 2.0, f"{_KUYUMCU}, 9.74"),
        eye_muscle=OrganUptake(0.7, 0.2, NOT_SEEN),
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
        renal_pelvis=OrganUptake(14.0, 8.0, URINE, skewed=True),
        pancreas=(3.2, 1.0),
        adrenal=OrganUptake(8.2, 2.5, f"{_KUYUMCU}, 13.73"),
        stomach=(3.2, 1.0),
        duodenum=(4.0, 1.2),
        small_bowel=(2.6, 0.8),
        colon=(1.7, 0.5),
        bladder=OrganUptake(13.0, 10.0, URINE, skewed=True),
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
        "lung": LesionSite(0.05, 2.0, 20.0, CUSTOMARY),
    },
)
"""DOTATATE, 60 minutes after injection: spleen, kidneys, adrenals, pituitary, liver."""
