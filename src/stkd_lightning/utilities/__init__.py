"""Tools for all parts: errors, files, random numbers, ranks. This file imports no torch."""
