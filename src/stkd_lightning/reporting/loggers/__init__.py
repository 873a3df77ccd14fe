"""Dashboards: W&B, TensorBoard, MLflow, CSV."""
