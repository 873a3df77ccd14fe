from dataclasses import replace
from pathlib import Path

from huggingface_hub import ModelCard

from stkd_lightning import load_student
from stkd_lightning.inference.formats import ONNX, Safetensors, TorchScript
from stkd_lightning.inference.model_card import card
from stkd_lightning.inference.student_info import StudentFacts
from tests.inference.students import checkpoint

COMPARISON = {"images": "64 test images of digits", "largest_difference": 1.5e-7}


def test_the_hub_reads_the_card(tmp_path: Path) -> None:
    """Read by the hub's own reader, which checks the header; figures are those of the summary."""
    facts = load_student(checkpoint(tmp_path / "run")[0]).facts
    facts.about["test_images"] = 450
    text = card(facts, Safetensors(), COMPARISON, "me/digits")
    read = ModelCard(text)
    assert read.data.license is None
    assert read.data.library_name == "stkd-lightning"
    assert read.data.datasets == ["digits"]
    assert "knowledge-distillation" in read.data.tags
    (accuracy, top5) = read.data.eval_results
    assert (accuracy.metric_type, accuracy.metric_value, accuracy.dataset_split) == ("accuracy", 0.91, "test")
    assert (top5.metric_type, top5.metric_value) == ("top5", 0.99)
    for words in (
        "distilled from resnet20 by stkd",
        "Test images of digits (n = 450), one run, seed 0; the student with the best validation accuracy",
        "| teacher | 78,042 | 1.6 | 95.00 |",
        "| the same network, without a teacher | 78,042 | 1.6 | 81.00 |",
        "| this student | 78,042 | 1.6 | 91.00 | 99.00 |",
        "- Objective: STKDLoss, alpha=0.9, temperature=4.0",
        "- Mixing: Mixup, alpha=0.2",
        'student = load_student(snapshot_download("me/digits"))',
        "mean [0.3, 0.4, 0.5], std [0.2, 0.25, 0.3]",
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "compared with the checkpoint on 64 test images of digits: logits differ by 1.5e-07 at most",
    ):
        assert words in text, words
    assert "/home/me" not in text


def test_what_is_not_known_is_not_said() -> None:
    """Nothing but names of classes that would break out of the header, were they in it."""
    facts = StudentFacts({}, {}, ("---", "a: b", "${c}"), (0.5,) * 3, (0.2,) * 3, 32, {})
    text = card(facts, ONNX(), COMPARISON, None)
    assert ModelCard(text).data.eval_results is None
    assert "trained without a teacher" in text
    assert "None" not in text
    assert 'snapshot_download("YOU/student")' in text
    assert "onnxruntime.InferenceSession" in text
    assert "trust=True" in card(facts, TorchScript(), COMPARISON, None)


def test_names_are_no_markup(tmp_path: Path) -> None:
    """A hostile name stays one cell, one line and one value of the header."""
    facts = load_student(checkpoint(tmp_path / "run")[0]).facts
    evil = "<script>\n---\n# ${oc.env:HOME} | [a](b)"
    about = {
        **facts.about,
        "name": evil,
        "method": evil,
        "data": {"name": evil, "digest": None},
        "objective": {"a": evil},
    }
    text = card(replace(facts, about=about, class_names=(evil, "b")), Safetensors(), COMPARISON, None)
    assert ModelCard(text).data.datasets == [evil]
    body = text.split("\n---\n", 1)[1]
    for words in ("<script>", "\n---", "[a](b)"):
        assert words not in body.replace(r"\<", "").replace(r"\[", ""), words
    assert r"\<script\>\\n---" in body
