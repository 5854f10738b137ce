"""The report of a denoised series: figures as PNG bytes, and one self-contained HTML page."""

from pipeline.report.adaptation_page import gain_figure, write_adaptation_page
from pipeline.report.benchmark_figures import Curve, Point, curves_figure, points_figure
from pipeline.report.benchmark_page import PageFigure, write_benchmark_page
from pipeline.report.cohort_page import OUTLYING, CohortScan, outlyingness, write_cohort_page
from pipeline.report.figures import SUV_WINDOW, difference_figure, histogram_figure, mip_figure, profile_figure
from pipeline.report.montage import MontageRow, montage_figure, montage_row
from pipeline.report.noise_page import LIVER_NOISE_COLUMNS, liver_noise_figure, liver_noise_table, write_noise_page
from pipeline.report.scan.agreement_figures import (
    SUVAgreement,
    absolute_error_figure,
    agreement_figure,
    error_figure,
    suv_agreement,
    voxel_error_figure,
)
from pipeline.report.scan.region_figures import region_figure, region_figures
from pipeline.report.scan.report import write_report
from pipeline.report.scan.turning import Turning, turning_projections
from pipeline.report.viewer import write_viewer

__all__ = [
    "LIVER_NOISE_COLUMNS",
    "OUTLYING",
    "SUV_WINDOW",
    "CohortScan",
    "Curve",
    "MontageRow",
    "PageFigure",
    "Point",
    "SUVAgreement",
    "Turning",
    "absolute_error_figure",
    "agreement_figure",
    "curves_figure",
    "difference_figure",
    "error_figure",
    "gain_figure",
    "histogram_figure",
    "liver_noise_figure",
    "liver_noise_table",
    "mip_figure",
    "montage_figure",
    "montage_row",
    "outlyingness",
    "points_figure",
    "profile_figure",
    "region_figure",
    "region_figures",
    "suv_agreement",
    "turning_projections",
    "voxel_error_figure",
    "write_adaptation_page",
    "write_benchmark_page",
    "write_cohort_page",
    "write_noise_page",
    "write_report",
    "write_viewer",
]
