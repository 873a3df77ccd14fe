"""The commands: train, evaluate, predict, export and report."""
