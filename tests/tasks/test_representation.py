import pytest
import torch

from stkd_lightning.tasks import Representation, RepresentationMetrics
from tests.losses.properties import waves


def test_the_error_is_the_mean_over_images() -> None:
    """Batches of unequal numbers of images and of positions; each image counts once."""
    metrics, errors = RepresentationMetrics(), []
    for batch, side in ((3, 4), (2, 5), (1, 2)):
        student, teacher = waves(batch, 6, side, 3).float(), waves(batch, 6, side, 3, phase=1.0).float()
        metrics.update(student, torch.empty(0), teacher)
        errors += [float((s - t).square().mean()) for s, t in zip(student, teacher, strict=True)]
    value = metrics.compute(with_teacher=True)
    assert value.keys() == {"representation_error"}
    assert float(value["representation_error"]) == pytest.approx(sum(errors) / 6, rel=1e-5)
    metrics.reset()
    metrics.update(torch.ones(1, 2, 2, 2), torch.empty(0), torch.zeros(1, 2, 2, 2))
    assert float(metrics.compute(with_teacher=True)["representation_error"]) == 1


def test_a_lower_error_is_better() -> None:
    task = Representation((6, 4, 4))
    assert task.score.better(0.1, 0.2)
    assert task.score.text(0.25) == "0.25"
    assert task.logits_shape(11, (3, 32, 32)) == (6, 4, 4)


def test_maps_of_other_shapes_are_refused() -> None:
    for teacher in (torch.zeros(2, 3, 4, 5), None):
        with pytest.raises(ValueError, match="need representations of one shape"):
            RepresentationMetrics().update(torch.zeros(2, 3, 4, 4), torch.empty(0), teacher)
