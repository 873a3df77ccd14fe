"""Segmentation networks of this project."""
