"""Regions in and out: label maps, DICOM SEG and RTSTRUCT read; label maps, DICOM SEG and TID 1500 reports written."""

from pipeline.regions.label_maps import write_label_map
from pipeline.regions.measurement_report import REPORTED, write_measurement_report
from pipeline.regions.reading import read_regions
from pipeline.regions.segmentation_writer import KINDS, Kind, write_segmentation

__all__ = [
    "KINDS",
    "REPORTED",
    "Kind",
    "read_regions",
    "write_label_map",
    "write_measurement_report",
    "write_segmentation",
]
