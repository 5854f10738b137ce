"""Training: MONAI engines and their handlers."""

from pipeline.training.checkpoint import Checkpoint
from pipeline.training.checkpoint_files import save_atomically
from pipeline.training.config_check import checked_config, parse_setting
from pipeline.training.distributed import is_main_process, leave_processes, process_device, process_slice, shared_store
from pipeline.training.progress import EpochLog
from pipeline.training.progress_figure import ProgressFigure
from pipeline.training.resumable_loader import ResumableLoader, SeededDataset
from pipeline.training.run import TrainingResult, train_bundle
from pipeline.training.scan_statistics import ScanStatisticsd, StatisticsByDose, measure_statistics
from pipeline.training.schedule import WarmupCosine
from pipeline.training.tensorboard_log import TensorBoardLog
from pipeline.training.time_limit import TimeLimit
from pipeline.training.trainer import DenoisingTrainer
from pipeline.training.validation_picture import ValidationPicture
from pipeline.training.weight_average import WeightAverage

__all__ = [
    "Checkpoint",
    "DenoisingTrainer",
    "EpochLog",
    "ProgressFigure",
    "ResumableLoader",
    "ScanStatisticsd",
    "SeededDataset",
    "StatisticsByDose",
    "TensorBoardLog",
    "TimeLimit",
    "TrainingResult",
    "ValidationPicture",
    "WarmupCosine",
    "WeightAverage",
    "checked_config",
    "is_main_process",
    "leave_processes",
    "measure_statistics",
    "parse_setting",
    "process_device",
    "process_slice",
    "save_atomically",
    "shared_store",
    "train_bundle",
]
