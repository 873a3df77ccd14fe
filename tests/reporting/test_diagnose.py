from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stkd_lightning.reporting.diagnose import WEIGHTS, diagnose, similarity
from stkd_lightning.reporting.diagnostics import FILE, Diagnostics, read_diagnostics
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.errors import InputError

CPU = torch.device("cpu")


def images(n: int = 12, classes: int = 4) -> list[Batch]:
    random = torch.Generator().manual_seed(0)
    pixels, labels = torch.rand(n, 3, 4, 4, generator=random), torch.randint(classes, (n,), generator=random)
    return [Batch(pixels[:8], labels[:8]), Batch(pixels[8:], labels[8:])]


def linear(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4)).requires_grad_(False)


def look(student: torch.nn.Module, teacher: torch.nn.Module | None) -> Diagnostics:
    return diagnose(student, teacher, images(), num_classes=4, device=CPU, mean=[0.0] * 3, std=[1.0] * 3)


def test_similarity_is_the_mean_distribution_of_each_class() -> None:
    logits, labels = torch.randn(9, 3), torch.tensor([0, 0, 2, 2, 2, 0, 2, 2, 0])
    found = similarity(logits, labels, 3, temperature=2.0)
    for c in range(3):
        own = [F.softmax(row / 2, 0) for row, label in zip(logits, labels, strict=True) if label == c]
        expected = sum(own) / len(own) if own else torch.zeros(3)
        assert torch.allclose(found[c], torch.as_tensor(expected))


def test_a_student_that_is_its_teacher_is_nowhere_apart() -> None:
    network = linear(0)
    found = look(network, network)
    assert found.divergence == pytest.approx(0, abs=1e-5)
    assert (found.agreement == 1).all()
    assert np.array_equal(found.student_similarity, found.teacher_similarity)


def test_divergence_on_virtual_samples() -> None:
    """By the definition: pairs are neighbours of a batch, the first has the weight; the incorrect part is within it."""
    student, teacher = linear(0), linear(1)
    found = look(student, teacher)
    assert found.divergence.shape == (len(WEIGHTS), 12)
    column = 0
    for batch in images():
        for i in range(len(batch.labels)):
            other = (i - 1) % len(batch.labels)
            for row, weight in enumerate(WEIGHTS):
                image = (weight * batch.images[i] + (1 - weight) * batch.images[other]).float()[None]
                p, q = (F.softmax(network(image) / 4, 1)[0] for network in (teacher, student))
                assert found.divergence[row, column] == pytest.approx(16 * float((p * (p / q).log()).sum()), abs=1e-4)
                wrong = torch.ones(4, dtype=torch.bool)
                wrong[[int(batch.labels[i]), int(batch.labels[other])]] = False
                mass_p, mass_q = p[wrong].sum(), q[wrong].sum()
                within = (p[wrong] * ((p[wrong] / mass_p) / (q[wrong] / mass_q)).log()).sum()
                assert found.incorrect[row, column] == pytest.approx(16 * float(within), abs=1e-4)
            column += 1


def test_shown_samples_are_what_they_say() -> None:
    found = look(linear(0), linear(1))
    assert found.shown.shape[1:] == (3, 3, 4, 4)
    weights = found.shown_weights[:, None, None, None]
    mixed = weights * found.shown[:, 0] + (1 - weights) * found.shown[:, 1]
    assert np.abs(mixed - found.shown[:, 2]).max() <= 1.01  # rounded thrice
    assert (found.shown_labels[:, 0] != found.shown_labels[:, 1]).all()
    assert found.student_shown.sum(1) == pytest.approx(1)


def test_without_a_teacher() -> None:
    found = look(linear(0), None)
    assert not found.has_teacher
    assert found.student_calibration[0].sum() == found.images == 12
    assert found.shown.size == found.teacher_similarity.size == 0


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = look(linear(0), linear(1))
    found.save(tmp_path / "diagnostics.npz")
    again = read_diagnostics(tmp_path / "diagnostics.npz")
    assert all(np.array_equal(getattr(found, name), getattr(again, name)) for name in vars(found))
    assert [p.name for p in tmp_path.iterdir()] == ["diagnostics.npz"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("pwned"),)


def test_a_hostile_or_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "diagnostics.npz"
    fields = {name: np.zeros(1) for name in Diagnostics.__dataclass_fields__}
    np.savez(path, **{**fields, "images": np.array([Evil()], dtype=object)})
    with pytest.raises(InputError, match=r"diagnostics.npz: cannot be read"):
        read_diagnostics(path)
    assert not (tmp_path / "pwned").exists()
    look(linear(0), None).save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:100] + b"\0" * 50 + whole[150:]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read"):
            read_diagnostics(path)
    for place in range(0, len(whole), 7):  # flipped bytes are refused, or where nothing reads them
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        with suppress(InputError):
            read_diagnostics(path)
    good = look(linear(0), linear(1))
    replace(good, shown_labels=good.shown_labels + 4).save(path)
    with pytest.raises(InputError, match=r"shown_labels must be in \[0, 4\)"):
        read_diagnostics(path)
    replace(good, teacher_similarity=np.zeros((2, 2))).save(path)
    with pytest.raises(InputError, match="teacher_similarity has shape"):
        read_diagnostics(path)


def test_networks_are_asked_without_gradients() -> None:
    asked: list[bool] = []

    def network(x: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return x.flatten(1)[:, :4]

    diagnose(network, network, images(), num_classes=4, device=CPU, mean=[0.0] * 3, std=[1.0] * 3)
    assert not any(asked)


def test_one_image_makes_no_pairs(tmp_path: Path) -> None:
    """It has a calibration and similarities all the same."""
    batch = Batch(*(values[:1] for values in images()[0][:2]))
    diagnose(linear(0), linear(1), [batch], num_classes=4, device=CPU, mean=[0.0] * 3, std=[1.0] * 3).save(
        tmp_path / FILE
    )
    read = read_diagnostics(tmp_path / FILE)
    assert not read.has_teacher
    assert read.teacher_calibration[0].sum() == 1
