"""The number of images in a global batch."""


def batch_rows(batch_size: int, unlabeled_ratio: float | None) -> int:
    """Return the labelled and the unlabelled images of a global batch together.

    Args:
        batch_size: labelled images.
        unlabeled_ratio: unlabelled images for each of them, >= 0, rounded to whole images; ``None``: there are none.
    """
    return batch_size + round((unlabeled_ratio or 0) * batch_size)
