"""A distilled student by itself: load, predict, export."""
