"""FDG, and where it goes an hour after injection."""

from pipeline.simulation.patient.tracers.table import CUSTOMARY, URINE, organs
from pipeline.simulation.patient.uptake import LesionSite, OrganUptake, Tracer

__all__ = ["FDG"]

_WANG = "SUV atlas of 98 patients, Mol Imaging Biol 2007;9:83, doi 10.1007/s11307-006-0075-y"
_LIU = "343 normal livers, 1.9 +- 0.4, Iran J Radiol 2019;16:e84881, doi 10.5812/iranjradiol.84881"

FDG = Tracer(
    name="FDG",
    radionuclide="F-18",
    activity_per_mass=3.5e6,
    largest_activity=530e6,
    uptake_time=3600.0,
    administration_source="customary; uptake time of the EANM guideline, Eur J Nucl Med Mol Imaging 2015;42:328",
    aliases=("FDG", "18F-FDG", "F-18 FDG", "fluorodeoxyglucose"),
    bowel_variation=0.55,
    organs=organs(
        grey_matter=(9.0, 1.8),
        white_matter=OrganUptake(3.2, 0.7, CUSTOMARY, follows="grey_matter"),
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
        renal_pelvis=OrganUptake(6.5, 4.3, URINE, skewed=True),
        pancreas=(1.5, 0.3),
        adrenal=(1.5, 0.4),
        stomach=(2.0, 0.6),
        duodenum=(1.6, 0.5),
        small_bowel=(1.3, 0.5),
        colon=(1.5, 0.6),
        bladder=OrganUptake(19.0, 12.5, URINE, skewed=True),
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
        "lung": LesionSite(0.22, 1.5, 20.0, CUSTOMARY),
        "liver": LesionSite(0.22, 3.0, 20.0, CUSTOMARY),
        "bone": LesionSite(0.22, 2.0, 20.0, CUSTOMARY),
        "node": LesionSite(0.22, 2.0, 25.0, CUSTOMARY),
        "soft": LesionSite(0.12, 2.0, 25.0, CUSTOMARY),
    },
)
"""FDG, 60 minutes after injection: brain, heart and urine."""
