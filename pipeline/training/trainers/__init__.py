"""Trainers: what one iteration does, of a denoiser and of a diffusion."""
