import torch

from stkd_lightning.distillation.terms import RunningMeans


def test_means_are_those_since_the_last_look() -> None:
    means = RunningMeans()
    assert means.pop() == {}
    means.add(("a", "b"), torch.tensor([1.0, 2.0], requires_grad=True))
    means.add(("a", "b"), torch.tensor([3.0, 6.0]))
    assert means.pop() == {"a": 2.0, "b": 4.0, "loss": 6.0}
    means.add(("a", "b"), torch.tensor([5.0, 5.0]))
    assert means.pop() == {"a": 5.0, "b": 5.0, "loss": 10.0}
    assert means.pop() == {}


def test_other_terms_begin_anew() -> None:
    means = RunningMeans()
    means.add(("a",), torch.tensor([1.0]))
    means.add(("b", "c"), torch.tensor([2.0, 3.0]))
    assert means.pop() == {"b": 2.0, "c": 3.0, "loss": 5.0}
