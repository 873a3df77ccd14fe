"""Downloading, extracting and reading files of others."""
