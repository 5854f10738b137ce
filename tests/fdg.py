"""The header of an FDG scan of 70 kg, 350 MBq, one hour after injection."""

from pipeline.pet import PETHeader

FDG = PETHeader(
    units="BQML",
    decay_correction="START",
    patient_weight=70.0,
    patient_height=1.75,
    patient_sex="F",
    radionuclide="F-18",
    radiopharmaceutical="FDG",
    radionuclide_half_life=6586.2,
    injected_dose=350e6,
    administration_time=-3600.0,
    reference_time=0.0,
    frame_duration=120.0,
)
