import torch
from hypothesis import given
from hypothesis import strategies as st

from stkd_lightning.tasks.types import MixedTarget


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.floats(0, 1, width=32)), min_size=1, max_size=8))
def test_dense_is_the_same_combination_of_one_hot_labels(rows: list[tuple[int, int, float]]) -> None:
    labels = torch.tensor([r[:2] for r in rows])
    weights = torch.tensor([[r[2], 1 - r[2]] for r in rows], dtype=torch.float64)
    one_hot = torch.nn.functional.one_hot(labels, 5).double()
    dense = MixedTarget(labels, weights).dense(5)
    torch.testing.assert_close(dense, (weights[:, :, None] * one_hot).sum(1))
    torch.testing.assert_close(dense.sum(1), torch.ones(len(rows), dtype=torch.float64))


def test_correct_classes_are_a_set_of_those_with_weight() -> None:
    target = MixedTarget(torch.tensor([[0, 1], [2, 2], [1, 0]]), torch.tensor([[0.4, 0.6], [0.4, 0.6], [1.0, 0.0]]))
    expected = [[True, True, False], [False, False, True], [False, True, False]]
    assert target.correct(3).tolist() == expected


def test_an_unmixed_batch_has_one_label_of_weight_one() -> None:
    target = MixedTarget.unmixed(torch.tensor([3, 1]))
    assert target.labels.tolist() == [[3], [1]]
    assert target.weights.tolist() == [[1.0], [1.0]]
