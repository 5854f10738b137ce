"""Training: MONAI engines and their handlers."""

from pipeline.training.checkpoint import Checkpoint, EpochSeed, save_atomically
from pipeline.training.gradients import ClipGradientNorm
from pipeline.training.progress import EpochLog
from pipeline.training.unipet_trainer import UniPETTrainer

__all__ = ["Checkpoint", "ClipGradientNorm", "EpochLog", "EpochSeed", "UniPETTrainer", "save_atomically"]
