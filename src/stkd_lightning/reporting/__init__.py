"""Summaries, comparisons, figures and reports of runs, and their dashboards."""
