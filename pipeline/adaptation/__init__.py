"""Adaptation: the weights fine-tuned on pairs made of a site's own full doses, judged, and kept if they gain."""

from pipeline.adaptation.adapt import AdaptationResult, AdaptationSettings, adapt

__all__ = ["AdaptationResult", "AdaptationSettings", "adapt"]
