"""Queue of measurements and trainings for a GPU that is free for some minutes at a time: see README.md."""
