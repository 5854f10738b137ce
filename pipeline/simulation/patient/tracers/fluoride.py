"""Sodium fluoride, and where it goes an hour after injection: a tracer of bone."""

from pipeline.simulation.patient.tracers.table import CUSTOMARY, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["FLUORIDE"]

_SABBAH = "129 patients, Clin Nucl Med 2015;40:e228, doi 10.1097/RLU.0000000000000633"
_VALADARES = "762 regions of 254 patients, Radiol Bras 2016;49:12: normal below 21 in vertebrae, below 8.4 in the femur"
_BLOOD = "a tenth of what was injected is in the blood after an hour, which is 1.4 in 5.3 L of 75 kg; spread customary"
_BELOW_BLOOD = "customary: soft tissue has less than blood, not traced to one publication"


def _soft(mean: float, sd: float) -> OrganUptake:
    return OrganUptake(mean, sd, _BELOW_BLOOD)


FLUORIDE = Tracer(
    name="NaF",
    radionuclide="F-18",
    activity_per_mass=2.2e6,
    largest_activity=370e6,
    uptake_time=3600.0,
    administration_source="2.2 MBq/kg and 30 to 60 min: SNM practice guideline, J Nucl Med 2010;51:1813",
    aliases=("fluoride", "sodium fluoride", "18F-NaF", "F-18 NaF", "18F-fluoride", "F-18 sodium fluoride"),
    bowel_variation=0.3,
    organs=organs(
        grey_matter=_soft(0.25, 0.06),
        white_matter=OrganUptake(0.2, 0.05, _BELOW_BLOOD, follows="grey_matter"),
        cerebellum=OrganUptake(0.25, 0.06, _BELOW_BLOOD, follows="grey_matter"),
        cerebrospinal_fluid=_soft(0.3, 0.07),
        spinal_cord=_soft(0.4, 0.1),
        pituitary=_soft(0.7, 0.2),
        eye_muscle=_soft(0.6, 0.15),
        lacrimal=_soft(0.8, 0.2),
        parotid=_soft(1.0, 0.25),
        submandibular=_soft(1.0, 0.25),
        sublingual=_soft(0.9, 0.25),
        tonsil=_soft(0.8, 0.2),
        thyroid=_soft(0.8, 0.2),
        blood=OrganUptake(1.4, 0.35, _BLOOD),
        myocardium=_soft(0.9, 0.2),
        lung=_soft(0.35, 0.09),
        hilum=_soft(1.0, 0.25),
        oesophagus=_soft(0.8, 0.2),
        liver=_soft(0.9, 0.2),
        gallbladder=_soft(0.6, 0.2),
        spleen=_soft(0.9, 0.2),
        kidney=(3.0, 1.2),
        renal_pelvis=OrganUptake(15.0, 10.0, URINE, skewed=True),
        pancreas=_soft(0.8, 0.2),
        adrenal=_soft(0.8, 0.2),
        stomach=_soft(0.9, 0.25),
        duodenum=_soft(0.9, 0.25),
        small_bowel=_soft(1.0, 0.3),
        colon=_soft(0.8, 0.25),
        bladder=OrganUptake(30.0, 20.0, URINE, skewed=True),
        uterus=_soft(1.1, 0.3),
        ovary=_soft(0.9, 0.25),
        prostate=_soft(1.0, 0.25),
        testis=_soft(0.7, 0.2),
        breast=_soft(0.5, 0.15),
        # What the phantom calls marrow is the inside of a bone: trabeculae, which take up most.
        marrow=OrganUptake(6.5, 1.4, f"{CUSTOMARY}; {_VALADARES}"),
        cortical_bone=OrganUptake(3.0, 0.8, f"{CUSTOMARY}; {_VALADARES}"),
        muscle=_soft(0.6, 0.12),
        fat=_soft(0.25, 0.07),
        skin=_soft(0.6, 0.12),
    ),
    lesion_sites={"bone": LesionSite(1.0, 9.5, 60.0, f"{_SABBAH}: metastases had 25.9 +- 16.6 at most, 4.5 to 103.3")},
)
"""Sodium fluoride, 60 minutes after injection: the skeleton, kidneys and urine."""
