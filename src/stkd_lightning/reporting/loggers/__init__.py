"""Loggers: W&B, TensorBoard, MLflow, CSV."""
