"""The LightningModule, and the mixing of its batches."""
