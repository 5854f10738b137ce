"""PSMA-11, and where it goes an hour after injection."""

from pipeline.simulation.patient.tracers.table import CUSTOMARY, NOT_SEEN, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["PSMA_11"]

_KIRCHNER = "0.6 of the SUVmax in 55 men, Clin Nucl Med 2017;42(7), Practical Interpretation Hurdles in 68Ga-PSMA PET"

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
    organs=organs(
        grey_matter=OrganUptake(0.25, 0.06, NOT_SEEN),
        white_matter=OrganUptake(0.15, 0.04, NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.25, 0.06, NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.2, 0.05, NOT_SEEN),
        spinal_cord=OrganUptake(0.5, 0.1, NOT_SEEN),
        pituitary=(1.0, 0.3),
        eye_muscle=OrganUptake(0.8, 0.2, NOT_SEEN),
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
        gallbladder=OrganUptake(3.0, 2.0, CUSTOMARY, skewed=True),
        spleen=OrganUptake(6.5, 2.3, f"{_KIRCHNER}, 10.9 +- 3.9", skewed=True),
        kidney=OrganUptake(39.8, 15.2, f"{_KIRCHNER}, 66.4 +- 25.4", skewed=True),
        renal_pelvis=OrganUptake(30.0, 15.0, URINE, skewed=True),
        pancreas=(2.2, 0.6),
        adrenal=(3.5, 1.0),
        stomach=(2.2, 0.7),
        duodenum=OrganUptake(10.6, 5.3, f"{_KIRCHNER}, 17.6 +- 8.9", skewed=True),
        small_bowel=(4.5, 1.5),
        colon=(2.0, 0.7),
        bladder=OrganUptake(25.0, 20.0, URINE, skewed=True),
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
        "prostate": LesionSite(0.12, 5.0, 60.0, CUSTOMARY),
        "node": LesionSite(0.36, 3.0, 60.0, CUSTOMARY),
        "bone": LesionSite(0.36, 3.0, 60.0, CUSTOMARY),
        "lung": LesionSite(0.08, 1.5, 20.0, CUSTOMARY),
        "liver": LesionSite(0.08, 6.0, 40.0, CUSTOMARY),
    },
)
"""PSMA-11, 60 minutes after injection: kidneys, salivary and lacrimal glands, duodenum; men only."""
