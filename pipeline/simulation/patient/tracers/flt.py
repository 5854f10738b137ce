"""FLT (fluorothymidine), and where it goes an hour after injection: a tracer of proliferation."""

from pipeline.simulation.patient.tracers.table import CUSTOMARY, NOT_SEEN, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["FLT"]

_BASELINE = "18 patients with melanoma before treatment, Clin Nucl Med 2024;49:722"
_HINIKER = "mediastinal blood of 10 patients, table 2 of Front Oncol 2019;9:467, doi 10.3389/fonc.2019.00467"
_HERRMANN = "31 patients with pancreatic lesions, J Nucl Med 2008;49:1437: benign 1.2 to 1.7, cancer 1.3 to 8.5"

FLT = Tracer(
    name="FLT",
    radionuclide="F-18",
    activity_per_mass=4.0e6,
    largest_activity=370e6,
    uptake_time=3600.0,
    administration_source="customary; 300 MBq and 45 min in Oncotarget 2018, doi 10.18632/oncotarget.24176",
    aliases=("18F-FLT", "F-18 FLT", "fluorothymidine"),
    bowel_variation=0.4,
    organs=organs(
        # It does not pass the barrier between blood and brain.
        grey_matter=OrganUptake(0.35, 0.08, NOT_SEEN),
        white_matter=OrganUptake(0.3, 0.07, NOT_SEEN, follows="grey_matter"),
        cerebellum=OrganUptake(0.35, 0.08, NOT_SEEN, follows="grey_matter"),
        cerebrospinal_fluid=OrganUptake(0.25, 0.06, NOT_SEEN),
        spinal_cord=OrganUptake(0.5, 0.12, NOT_SEEN),
        pituitary=(0.9, 0.25),
        eye_muscle=(0.8, 0.2),
        lacrimal=(0.9, 0.25),
        parotid=(1.1, 0.3),
        submandibular=(1.2, 0.3),
        sublingual=(1.1, 0.3),
        tonsil=(2.2, 0.8),
        thyroid=(0.9, 0.25),
        blood=OrganUptake(0.96, 0.29, _HINIKER),
        myocardium=(0.9, 0.25),
        lung=(0.4, 0.1),
        hilum=(0.9, 0.25),
        oesophagus=(1.0, 0.3),
        # FLT is bound to glucuronic acid there.
        liver=OrganUptake(4.86, 0.98, f"{_BASELINE}, 4.86 +- 0.98"),
        gallbladder=(2.5, 1.5),
        spleen=(2.0, 0.6),
        kidney=(4.5, 1.4),
        renal_pelvis=OrganUptake(12.0, 8.0, URINE, skewed=True),
        pancreas=OrganUptake(1.4, 0.3, f"{_HERRMANN}, mean 1.4 in what is benign"),
        adrenal=(1.2, 0.3),
        stomach=(1.3, 0.4),
        duodenum=(2.2, 0.7),
        small_bowel=(2.0, 0.7),
        colon=(1.5, 0.5),
        bladder=OrganUptake(25.0, 18.0, URINE, skewed=True),
        uterus=(1.3, 0.4),
        ovary=(1.1, 0.3),
        prostate=(1.4, 0.4),
        testis=(1.3, 0.4),
        breast=(0.6, 0.2),
        marrow=OrganUptake(7.67, 1.65, f"{_BASELINE}, 7.67 +- 1.65"),
        cortical_bone=(0.6, 0.2),
        muscle=(0.75, 0.15),
        fat=(0.25, 0.07),
        skin=(0.6, 0.1),
    ),
    # None in the marrow and hardly any in the liver: these hide what is in them.
    lesion_sites={
        "lung": LesionSite(0.35, 1.3, 8.5, f"{_HERRMANN}; recurrences in the lung 2.8 to 5.9, Front Oncol 2019;9:467"),
        "node": LesionSite(0.40, 1.3, 8.5, _HERRMANN),
        "soft": LesionSite(0.20, 1.3, 8.5, _HERRMANN),
        "liver": LesionSite(0.05, 6.0, 13.0, CUSTOMARY),
    },
)
"""FLT, 60 minutes after injection: red marrow, liver, kidneys and urine."""
