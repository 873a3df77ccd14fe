"""The model card: the ``README.md`` of an export, in the format of the Hugging Face hub."""

import math
import re
from collections.abc import Sequence
from typing import Any

import yaml

from stkd_lightning.inference.card_wording import wording
from stkd_lightning.inference.formats.base import Format, input_words
from stkd_lightning.inference.quantization import Quantization
from stkd_lightning.inference.student_info import StudentFacts
from stkd_lightning.tasks.base import ClassMetric
from stkd_lightning.utilities.image_size import shape_of
from stkd_lightning.utilities.text import markdown

SHOWN_CLASSES = 20
SHOWN_CHARACTERS = 100  # of a class name
ROLES = {"teacher": "teacher", "alone": "the same network, without a teacher"}  # other networks of the figures


def card(
    facts: StudentFacts,
    export_format: Format,
    comparison: dict[str, Any],
    repository: str | None,
    quantization: Quantization | None = None,
) -> str:
    """Return the card of an export.

    Args:
        facts: of its student.
        export_format: format of the export.
        comparison: as in ``student.json``.
        repository: name on the hub, if it is known.
        quantization: figures of a quantized file.
    """
    metadata = yaml.safe_dump(header(facts, quantization), sort_keys=False, allow_unicode=True)
    parts = [
        f"---\n# license: (yours to choose)\n{metadata}---\n",
        f"# {markdown(_title(facts))}\n",
        f"{_origin(facts)}\n",
        f"## Figures\n\n{_figures(facts, quantization)}\n",
        f"## Use\n\n{_use(facts, export_format, repository or _example(facts))}\n",
        f"## {'Clips' if facts.sample_rate else 'Images'}\n\n{_images(facts)}\n",
        f"## Training\n\n{_training(facts)}\n",
        f"## Limits\n\n{_limits(facts, export_format, comparison, quantization)}",
    ]
    return "\n".join(parts)


def header(facts: StudentFacts, quantization: Quantization | None = None) -> dict[str, Any]:
    """Return the metadata at the top of the card; of a quantized file with its own figures."""
    data, words = _data(facts), wording(facts)
    test = (facts.about.get("student") or {}).get("test", {}) if quantization is None else quantization.quantized
    tags = [words.tag, "pytorch", *(["knowledge-distillation"] if "teacher" in facts.about else [])]
    metrics = [
        {"type": name, "name": label, "value": round(test[name], 6)}
        for name, label in words.metrics.items()
        if name in test
    ]
    content: dict[str, Any] = {
        "library_name": "stkd-lightning",
        "pipeline_tag": words.tag,
        "tags": tags,
        "datasets": [data],
    }
    if metrics:
        result = {
            "task": {"type": words.tag},
            "dataset": {"type": data, "name": data, "split": "test"},
            "metrics": metrics,
        }
        content["metrics"] = [next(iter(words.metrics))]
        content["model-index"] = [{"name": _title(facts), "results": [result]}]
    return content


def _name(facts: StudentFacts) -> str:
    return str(facts.about.get("name") or "student")


def _example(facts: StudentFacts) -> str:
    """Return a name for a repository, for code in the card."""
    return f"YOU/{_name(facts) if re.fullmatch(r'[A-Za-z0-9._-]+', _name(facts)) else 'student'}"


def _data(facts: StudentFacts) -> str:
    return str((facts.about.get("data") or {}).get("name") or "unknown")


def _title(facts: StudentFacts) -> str:
    return f"{_name(facts)} on {_data(facts)}"


def _origin(facts: StudentFacts) -> str:
    teacher = facts.about.get("teacher")
    how = (
        f"distilled from {markdown(str(teacher.get('name')))} by {markdown(str(facts.about.get('method')))}"
        if teacher
        else "trained without a teacher"
    )
    return f"{wording(facts).network.format(classes=facts.num_classes)}, {how}, with stkd-lightning."


def _rows(facts: StudentFacts, quantization: Quantization | None) -> list[tuple[str, Any]]:
    """Return the networks of the table of figures by name; of a quantized file the student in both precisions."""
    rows = [(words, facts.about.get(role)) for role, words in ROLES.items()]
    student = facts.about.get("student") or {}
    if quantization is None:
        return [*rows, ("this student", student)]
    exact, quantized = ({**student, "test": test} for test in (quantization.float32, quantization.quantized))
    return [*rows, ("this student, in float32", exact), ("this file, quantized", quantized)]


def _figures(facts: StudentFacts, quantization: Quantization | None) -> str:
    """Return a table of the teacher, the same network without a teacher, and the student, in percent."""
    rows = _rows(facts, quantization)
    count = facts.about.get("test_images")
    score, columns = next(iter(wording(facts).metrics.values())), wording(facts).columns
    selected = {"selected": f"the student with the best validation {score}", "last": "the student of the last epoch"}
    which = selected.get(str(facts.about.get("selection")), "a student")
    seed = f", seed {facts.about['seed']}" if "seed" in facts.about else ""
    shown = f"{markdown(_data(facts))}{f' (n = {count:,})' if count else ''}"
    kind = "clip" if facts.sample_rate else "image"
    lines = [
        f"Test {kind}s of {shown}, one run{seed}; {which}. They were not used for training or selection.\n",
        f"| | parameters | MFLOPs | {' | '.join(column.title for column in columns)} |",
        f"|---|---:|---:|{'---:|' * len(columns)}",
    ]
    for label, row in rows:
        if row:
            test = row.get("test", {})
            cells = [
                f"{row['parameters']:,}" if "parameters" in row else "",
                f"{row['flops'] / 1e6:,.1f}" if "flops" in row else "",
                *(column.text({"last": test}) for column in columns),
            ]
            lines.append(f"| {label} | " + " | ".join(cells) + " |")
    size = "x".join(map(str, shape_of(len(facts.mean), facts.image_size)[-2:]))
    unit = " samples" if facts.sample_rate else ""
    lines.append(f"\n(MFLOPs of one {kind} of {size}{unit}, two for each multiply-add.)")
    sizes = [] if quantization is None else [f"\nSize, and time on {quantization.processor}:\n", quantization.table()]
    return "\n".join(lines + _classes(facts, rows) + sizes)


def _classes(facts: StudentFacts, rows: Sequence[tuple[str, Any]]) -> list[str]:
    """Return the lines of a table of the metric of each class, for networks that have these figures."""
    tests = {label: row.get("test", {}) for label, row in rows if row}
    single = facts.task.of_classes
    return _class_table(tests, single) if single else []


def _class_table(tests: dict[str, Any], single: ClassMetric) -> list[str]:
    names = list(dict.fromkeys(name for test in tests.values() for name in test if name.startswith(single.prefix)))
    tests = {label: test for label, test in tests.items() if not test.keys().isdisjoint(names)}
    lines = [f"\n| {single.label}, % | {' | '.join(tests)} |", f"|---|{'---:|' * len(tests)}"] if names else []
    for name in names:
        values = [test.get(name, math.nan) for test in tests.values()]  # NaN: the class occurs nowhere
        cells = (f"{100 * value:.2f}" if math.isfinite(value) else "" for value in values)
        lines.append(f"| {markdown(name.removeprefix(single.prefix)[:SHOWN_CHARACTERS])} | {' | '.join(cells)} |")
    return lines


def _use(facts: StudentFacts, export_format: Format, repository: str) -> str:
    words = wording(facts)
    trust = ", trust=True" if export_format.holds_programs else ""
    code = (
        "from huggingface_hub import snapshot_download\nfrom stkd_lightning import load_student\n\n"
        f'student = load_student(snapshot_download("{repository}"){trust})\n'
        f"{words.predict}"
    )
    usage = f"{export_format.usage}\n{words.after}".rstrip().replace("{input}", input_words(facts))
    more = f"\n\nWithout this project:\n\n```python\n{usage}\n```" if export_format.usage else ""
    return f"```python\n{code}\n```{more}"


def _images(facts: StudentFacts) -> str:
    def rounded(values: tuple[float, ...]) -> list[float]:
        return [round(value, 6) for value in values]

    names = markdown(", ".join(name[:SHOWN_CHARACTERS] for name in facts.class_names[:SHOWN_CLASSES]))
    rest = f" and {facts.num_classes - SHOWN_CLASSES} more" if facts.num_classes > SHOWN_CLASSES else ""
    scaled = (
        "samples in [-1, 1)"
        if facts.sample_rate
        else f"in [0, 1], then (x - mean) / std of each channel: mean {rounded(facts.mean)}, std {rounded(facts.std)}"
    )
    after = f", then the front end {_settings(facts.network.get('front_end'))}" if facts.outside else ""
    return (
        f"{wording(facts).images}, {scaled}{after}.\n\n"
        f"Classes, in the order of the logits: {names}{rest}. `student.json` has all names."
    )


def _training(facts: StudentFacts) -> str:
    about = facts.about
    rows = {
        "Method": about.get("method"),
        "Objective": _settings(about.get("objective")),
        "Mixing": _settings(about.get("mixup"))
        if (about.get("mixup") or {"probability": 0}).get("probability", 1)
        else "none",
        "Epochs": about.get("epochs"),
        "Batch size": about.get("batch_size"),
        "Seed": about.get("seed"),
        "Data": about.get("data", {}).get("digest") and f"{_data(facts)}, digest {about['data']['digest']}",
    }
    return "\n".join(f"- {name}: {markdown(str(value))}" for name, value in rows.items() if value not in (None, ""))


def _settings(node: Any, prefix: str = "") -> str:
    """Return a configuration node as one line: its class and its options."""
    if not isinstance(node, dict):
        return ""
    words = [str(node.get("_target_", "")).rpartition(".")[2]] if "_target_" in node and not prefix else []
    for name, value in node.items():
        if isinstance(value, dict):
            target = str(value.get("_target_", "")).rpartition(".")[2]
            words += [f"{prefix}{name}={target}"] * bool(target) + [_settings(value, f"{prefix}{name}.")]
        elif name != "_target_" and value is not None:
            words.append(f"{prefix}{name}={value}")
    return ", ".join(filter(None, words))


def _limits(
    facts: StudentFacts, export_format: Format, comparison: dict[str, Any], quantization: Quantization | None
) -> str:
    exact = (
        f"compared with the checkpoint on {markdown(comparison['images'])}: "
        f"logits differ by {comparison['largest_difference']:.1e} at most"
    )
    computes = (
        f"computes in float32 and was {exact}"
        if quantization is None
        else f"computes in 8 bits. Before it was quantized, it was {exact}. It was calibrated on "
        f"{markdown(quantization.calibration)}; {markdown(quantization.comparison)}"
    )
    return (
        f"- It was evaluated only on {markdown(_data(facts))}; on other kinds of images {wording(facts).limits}.\n"
        "- It learns the mistakes of its teacher and of its training images, and may prefer some classes.\n"
        "- The figures come from a single run; another seed gives other figures.\n"
        f"- `{export_format.file}` {computes}.\n"
    )
