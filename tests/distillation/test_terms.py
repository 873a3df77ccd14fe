"""Running means of a loss's terms."""

import torch

from stkd_lightning.distillation.terms import Place, TermTracker

START = Place(0, 0, 0)


def test_means_are_those_since_the_last_call() -> None:
    terms = TermTracker()
    assert terms.pop_means() == {}
    terms.add(("a", "b"), torch.tensor([1.0, 2.0], requires_grad=True), START)
    terms.add(("a", "b"), torch.tensor([3.0, 6.0]), START)
    assert terms.pop_means() == {"a": 2.0, "b": 4.0, "loss": 6.0}
    terms.add(("a", "b"), torch.tensor([5.0, 5.0]), START)
    assert terms.pop_means() == {"a": 5.0, "b": 5.0, "loss": 10.0}
    assert terms.pop_means() == {}


def test_other_terms_begin_a_new_mean() -> None:
    terms = TermTracker()
    terms.add(("a",), torch.tensor([1.0]), START)
    terms.add(("b", "c"), torch.tensor([2.0, 3.0]), START)
    assert terms.pop_means() == {"b": 2.0, "c": 3.0, "loss": 5.0}


def test_a_state_is_continued() -> None:
    terms, later = TermTracker(), TermTracker()
    terms.add(("a",), torch.tensor([1.0]), START)
    later.load_state_dict(**terms.state_dict())
    later.add(("a",), torch.tensor([4.0]), START)
    assert later.pop_means() == {"a": 2.5, "loss": 2.5}


def test_state_of_other_ranks_or_an_older_version_is_their_mean() -> None:
    for total in (torch.tensor([[1.0], [2.0]]), torch.tensor([1.5])):
        terms = TermTracker()
        terms.load_state_dict(["a"], total, 2)
        assert terms.pop_means() == {"a": 0.75, "loss": 0.75}
