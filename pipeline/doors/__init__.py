"""Front doors: how other systems run the denoiser, as a BIDS app, as a module of a DICOM router, in a container."""

from pipeline.doors.bids_app import ParticipantScans, participant_scans
from pipeline.doors.container import LEVELS, ROUTER_FOLDERS, command_of
from pipeline.doors.router_module import run_module

__all__ = ["LEVELS", "ROUTER_FOLDERS", "ParticipantScans", "command_of", "participant_scans", "run_module"]
