"""Compose and check a configuration before torch is loaded."""
