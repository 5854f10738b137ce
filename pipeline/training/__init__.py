"""Training: stages of MONAI trainers, and what checks, saves, shows and resumes them."""

from pipeline.training.checkpoint import Checkpoint
from pipeline.training.checkpoint_files import save_atomically
from pipeline.training.config_check import checked_config, parse_setting
from pipeline.training.distributed import (
    is_main_process,
    leave_processes,
    process_device,
    process_slice,
    shared_store,
)
from pipeline.training.progress import EpochLog
from pipeline.training.progress_figure import ProgressFigure, ValidationPicture
from pipeline.training.resumable_loader import ResumableLoader
from pipeline.training.run import TrainingResult, run_stages, train_bundle
from pipeline.training.scan_noise import MeasureNoised, fit_noise
from pipeline.training.stage import Stage, WarmupCosine, start_from
from pipeline.training.time_limit import Deadline, TimeLimit
from pipeline.training.trainers.denoising import DenoisingTrainer
from pipeline.training.trainers.diffusion import DiffusionTrainer
from pipeline.training.weight_average import WeightAverage

__all__ = [
    "Checkpoint",
    "Deadline",
    "DenoisingTrainer",
    "DiffusionTrainer",
    "EpochLog",
    "MeasureNoised",
    "ProgressFigure",
    "ResumableLoader",
    "Stage",
    "TimeLimit",
    "TrainingResult",
    "ValidationPicture",
    "WarmupCosine",
    "WeightAverage",
    "checked_config",
    "fit_noise",
    "is_main_process",
    "leave_processes",
    "parse_setting",
    "process_device",
    "process_slice",
    "run_stages",
    "save_atomically",
    "shared_store",
    "start_from",
    "train_bundle",
]
