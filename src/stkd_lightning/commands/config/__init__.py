"""Composing and checking a configuration, before torch is loaded."""
