"""One data set in one file."""
