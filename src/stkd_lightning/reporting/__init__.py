"""What people look at: the summary of a run, its table, its dashboard."""
