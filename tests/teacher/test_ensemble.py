import math

import pytest
import torch
from torch import Tensor, nn

from stkd_lightning import MixedTarget, ModelOutput
from stkd_lightning.losses import KDLoss
from stkd_lightning.models import InputSpec, create_model, for_data
from stkd_lightning.tasks.tagging import TagTarget
from stkd_lightning.teacher import Ensemble, FrozenTeacher
from stkd_lightning.teacher.ensemble import mean_logits
from stkd_lightning.utilities.errors import InputError


def softened_mean(logits: Tensor, weights: list[float], temperature: float) -> Tensor:
    """Compute the mean of softened probabilities by loops, ``(M, B, K)`` to ``(B, K)``."""
    members, samples, classes = logits.shape
    result = torch.zeros(samples, classes, dtype=torch.float64)
    for i in range(samples):
        for m in range(members):
            powers = [math.exp(float(logits[m, i, k]) / temperature) for k in range(classes)]
            for k in range(classes):
                result[i, k] += weights[m] / sum(weights) * powers[k] / sum(powers)
    return result


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [2.0, 0.5, 1.0]])
def test_probabilities_are_the_mean(temperature: float, weights: list[float]) -> None:
    logits = 5 * torch.randn(3, 6, 7, dtype=torch.float64)
    shares = torch.tensor(weights, dtype=torch.float64) / sum(weights)
    found = (mean_logits(logits, shares, temperature=temperature) / temperature).softmax(1)
    torch.testing.assert_close(found, softened_mean(logits, weights, temperature), rtol=1e-10, atol=1e-12)


def test_probabilities_of_tags_are_the_mean() -> None:
    logits, shares = 5 * torch.randn(2, 6, 7, dtype=torch.float64), torch.tensor([0.25, 0.75], dtype=torch.float64)
    found = (mean_logits(logits, shares, temperature=2.0, exclusive=False) / 2.0).sigmoid()
    expected = 0.25 * (logits[0] / 2).sigmoid() + 0.75 * (logits[1] / 2).sigmoid()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_probabilities_of_pixels_are_the_mean() -> None:
    logits, shares = torch.randn(2, 3, 4, 5, 6, dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    expected = (logits / 4).softmax(2).mean(0)
    torch.testing.assert_close((mean_logits(logits, shares, temperature=4.0) / 4).softmax(1), expected)


@pytest.mark.parametrize("exclusive", [True, False])
def test_equal_networks_are_as_one(exclusive: bool) -> None:
    """The logits differ by a constant for each image where one class is right, and by nothing else."""
    logits, shares = 30 * torch.randn(4, 5), torch.tensor([0.5, 0.5])
    found = mean_logits(torch.stack([logits, logits]), shares, temperature=4.0, exclusive=exclusive)
    shifted = logits - 4 * (logits / 4).logsumexp(1, keepdim=True) if exclusive else logits
    torch.testing.assert_close(found, shifted, rtol=1e-5, atol=1e-4)


def test_distant_logits_stay_finite() -> None:
    logits = torch.tensor([[[1e4, 0.0, -1e4]], [[-1e4, 0.0, 1e4]]])
    for exclusive in (True, False):
        assert mean_logits(logits, torch.tensor([0.5, 0.5]), temperature=1.0, exclusive=exclusive).isfinite().all()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 0.002)])
def test_half_precision(dtype: torch.dtype, tolerance: float) -> None:
    logits, shares = (5 * torch.randn(2, 4, 5)).to(dtype), torch.tensor([0.5, 0.5])
    found, exact = (mean_logits(z, shares, temperature=4.0) for z in (logits, logits.double()))
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_loss_compares_with_the_mean(temperature: float) -> None:
    networks = [create_model("resnet8", num_classes=10).eval() for _ in range(2)]
    teacher = FrozenTeacher(Ensemble(networks, [3, 1], temperature=temperature))
    images, student = torch.randn(6, 3, 16, 16), ModelOutput(torch.randn(6, 10, requires_grad=True))
    answer = teacher.train()(images)
    assert not answer.logits.requires_grad
    assert not any(module.training or p.requires_grad for module in teacher.modules() for p in module.parameters())
    target = MixedTarget.unmixed(torch.arange(6))
    found = KDLoss(alpha=1.0, temperature=temperature)(student, answer, target)["kd"]
    with torch.no_grad():
        first, second = ((network(images) / temperature).softmax(1) for network in networks)
    mean, log_q = 0.75 * first + 0.25 * second, (student.logits / temperature).log_softmax(1)
    expected = temperature**2 * (mean * (mean.log() - log_q)).sum(1).mean()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_loss_of_tags_compares_with_the_mean() -> None:
    networks = [nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2)]
    teacher = FrozenTeacher(Ensemble(networks, temperature=2.0, exclusive=False))
    images, student = torch.randn(5, 1, 2, 2), torch.randn(5, 3)
    target = TagTarget(torch.ones(5, 1, 3, dtype=torch.long), torch.ones(5, 1))
    loss = KDLoss(alpha=1.0, temperature=2.0)
    found = loss(ModelOutput(student), teacher(images), target)["kd"]
    p, q = sum((network(images) / 2).sigmoid() for network in networks) / 2, (student / 2).sigmoid()
    expected = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).sum(1).mean()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)


def test_members_have_their_own_input() -> None:
    data = {"image_size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}
    plain = create_model("resnet8", num_classes=10).eval()
    other = create_model("resnet8", num_classes=10).eval()
    adapted = for_data(other, InputSpec(32, [0.1, 0.2, 0.3], [0.5, 0.5, 1.0]), **data)
    images = torch.randn(2, 3, 16, 16)
    seen = (images * 0.25 + 0.5 - torch.tensor([0.1, 0.2, 0.3]).view(-1, 1, 1)) / torch.tensor([0.5, 0.5, 1.0]).view(
        -1, 1, 1
    )
    seen = nn.functional.interpolate(seen, (32, 32), mode="bilinear", antialias=True)
    with torch.no_grad():
        expected = (plain(images).softmax(1) + other(seen).softmax(1)) / 2
    found = FrozenTeacher(Ensemble([plain, adapted], temperature=1.0))(images).logits.softmax(1)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_digest_names_every_part() -> None:
    first, second = (create_model("resnet8", num_classes=10) for _ in range(2))
    teachers = [
        Ensemble([first, second], temperature=4.0),
        Ensemble([second, first], temperature=4.0),
        Ensemble([first, second], [2, 1], temperature=4.0),
        Ensemble([first, second], temperature=1.0),
        Ensemble([first, second], temperature=4.0, exclusive=False),
        Ensemble([first], temperature=4.0),
    ]
    assert len({FrozenTeacher(teacher).digest for teacher in teachers}) == 6
    again = Ensemble([first, second], [5, 5], temperature=4.0)
    assert FrozenTeacher(again).digest == FrozenTeacher(teachers[0]).digest


def test_wrong_parts_are_refused() -> None:
    network = nn.Linear(1, 1)
    with pytest.raises(InputError, match="ensemble: needs a network at least and a weight for each"):
        Ensemble([], temperature=1.0)
    with pytest.raises(InputError, match="ensemble: needs a network at least and a weight for each"):
        Ensemble([network], [1, 2], temperature=1.0)
    with pytest.raises(InputError, match="weights=0: must be above 0"):
        Ensemble([network], [0], temperature=1.0)
    with pytest.raises(InputError, match="temperature=0: must be above 0"):
        Ensemble([network], temperature=0)
