"""The engine: tasks that need nothing of each other, in this process, in several, or on other machines."""

from pipeline.engine.cluster import workers_kept
from pipeline.engine.plan import Plan, plan
from pipeline.engine.run import Failure, run_tasks
from pipeline.engine.workers import Workers

__all__ = ["Failure", "Plan", "Workers", "plan", "run_tasks", "workers_kept"]
