import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stkd_lightning.reporting.diagnose import WEIGHTS, diagnose
from stkd_lightning.reporting.diagnostics import FILE, Diagnostics, read_diagnostics
from stkd_lightning.reporting.figures import pictures
from stkd_lightning.reporting.grouping import settings
from stkd_lightning.reporting.mixtures import teacher_on_mixtures
from stkd_lightning.reporting.run import Run, read_run
from stkd_lightning.tasks.types import Batch
from stkd_lightning.utilities.errors import InputError
from tests.reporting.runs import run, written

NEW = ("teacher_entropy", "teacher_top1", "contradiction")


def teacher(images: Tensor) -> Tensor:
    """Return three pixels as logits, of which the last one is a class between the first two."""
    first, second, third = images.flatten(1)[:, :3].unbind(1)
    return torch.stack([4 * first, 4 * second, 4 * third + 6 * first * second], 1)


def look(pixels: Tensor, labels: Tensor) -> Diagnostics:
    images = pixels.view(-1, 3, 1, 1)
    batches = [Batch(images[:3], labels[:3]), Batch(images[3:], labels[3:])]
    return diagnose(teacher, teacher, batches, num_classes=3, device=torch.device("cpu"), mean=[0.0] * 3,
                    std=[1.0] * 3)  # fmt: skip


def test_teacher_on_mixtures_equals_loops() -> None:
    """Pairs are neighbours of a batch; some have equal labels."""
    pixels = torch.rand(8, 3, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([0, 1, 1, 2, 0, 0, 1, 2])
    found = look(pixels, labels)
    contradictions = []
    for row, weight in enumerate(WEIGHTS):
        entropies, right, contradicted = [], [], []
        for i in range(8):
            j = i - 1 if i not in (0, 3) else {0: 2, 3: 7}[i]
            a, b = int(labels[i]), int(labels[j])
            mixed = (float(weight) * pixels[i] + (1 - float(weight)) * pixels[j]).tolist()
            logits = [4 * mixed[0], 4 * mixed[1], 4 * mixed[2] + 6 * mixed[0] * mixed[1]]
            masses = [math.exp(z) for z in logits]
            p = [mass / sum(masses) for mass in masses]
            entropies.append(-sum(q * math.log(q) for q in p))
            right.append(p.index(max(p)) in ((a, b) if weight == 0.5 else (a,)))
            if a != b:
                contradicted.append(p[a] < p[b])
        assert found.teacher_entropy[row] == pytest.approx(sum(entropies) / 8, rel=1e-5)
        assert found.teacher_top1[row] == pytest.approx(sum(right) / 8)
        if weight > 0.5:
            contradictions.append(sum(contradicted) / len(contradicted))
    assert found.contradiction == pytest.approx(contradictions)
    assert 0 < min(contradictions) < max(contradictions) < 1


def test_teacher_on_mixtures_by_hand() -> None:
    """The teacher sees: the larger label, the smaller one, a third class, and nothing."""
    logits = torch.tensor([[9.0, 1, 0], [1.0, 9, 0], [2.0, 1, 9], [1.0, 1, 1], [1.0, 9, 0]])
    classes = torch.tensor([[0, 1], [0, 1], [0, 1], [1, 0], [0, 0]])
    found = teacher_on_mixtures(logits, classes, 0.7)
    assert found["top1"].tolist() == [1, 0, 0, 0, 0]
    assert found["contradiction"].tolist() == [0, 1, 0, 0]  # equal labels are left out
    assert found["entropy"][3] == pytest.approx(math.log(3))
    half = teacher_on_mixtures(logits, classes, 0.5)
    assert half["top1"].tolist() == [1, 1, 0, 1, 0]
    assert "contradiction" not in half


def test_contradiction_of_equal_labels_is_empty(tmp_path: Path) -> None:
    """They also make no gallery."""
    found = look(torch.rand(6, 3), torch.zeros(6, dtype=torch.long))
    found.save(tmp_path / FILE)
    again = read_diagnostics(tmp_path / FILE)
    assert again.contradiction.size == again.shown.size == 0
    assert again.teacher_top1.shape == WEIGHTS.shape


def old(one: Run) -> Run:
    """Rewrite a run's diagnostics as an older version wrote them."""
    assert one.folder
    with np.load(one.folder / FILE) as arrays:
        kept = {name: array for name, array in arrays.items() if name not in NEW}
    np.savez_compressed(one.folder / FILE, **kept)
    return read_run(one.folder)


def test_files_of_older_versions_are_drawn(tmp_path: Path) -> None:
    new, older = written(run("kd", 0, 0.5), tmp_path / "new"), old(written(run("kd", 1, 0.5), tmp_path / "old"))
    assert "divergence" in [p.name for p in pictures(settings([older]))]
    assert "mixtures" not in [p.name for p in pictures(settings([older]))]
    (alone,) = (p.caption for p in pictures(settings([new])) if p.name == "mixtures")
    (beside,) = (p.caption for p in pictures(settings([new, older])) if p.name == "mixtures")
    assert alone == beside


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good = look(torch.rand(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]))
    changes = [
        ({"contradiction": good.contradiction[1:]}, r"contradiction has shape \(4,\), not \(5,\)"),
        ({"contradiction": good.contradiction + 2}, r"contradiction must hold numbers in \[0, 1\]"),
        ({"teacher_top1": good.teacher_top1[:0]}, r"teacher_top1 has shape \(0,\), not \(6,\)"),
    ]
    for change, words in changes:
        replace(good, **change).save(tmp_path / FILE)
        with pytest.raises(InputError, match=words):
            read_diagnostics(tmp_path / FILE)


def test_mixtures_draw_each_teacher_once(tmp_path: Path) -> None:
    """Seed 0 gives kd and stkd one teacher; that of seed 1 is another."""
    runs = [written(run(m, s, 0.5), tmp_path / f"{m}{s}") for m, s in (("kd", 0), ("stkd", 0), ("ce", 1))]
    (same,) = (p for p in pictures(settings(runs[:2])) if p.name == "mixtures")
    assert [text.get_text() for text in same.figure.legends[0].get_texts()] == ["teacher"]
    d = runs[0].diagnostics_of(Diagnostics)
    assert d is not None
    curves = d.teacher_entropy, 100 * d.teacher_top1, 100 * d.contradiction
    for axis, values in zip(same.figure.axes, curves, strict=True):
        (line,) = axis.get_lines()
        assert np.asarray(line.get_ydata()) == pytest.approx(values)
    words = (
        f"entropy {curves[0][2]:.2f} nats, top-1 on mixtures {curves[1][2]:.1f} %, contradiction {curves[2][1]:.1f} %."
    )
    assert same.caption.endswith(f"At λ = 0.7, teacher: {words}")
    (both,) = (p for p in pictures(settings(runs)) if p.name == "mixtures")
    labels = [text.get_text() for text in both.figure.legends[0].get_texts()]
    assert labels == ["teacher of kd", "teacher of ce"]
