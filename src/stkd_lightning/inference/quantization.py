"""The figures of a quantized file beside those of its student in float32, measured when it was exported."""

from dataclasses import dataclass
from typing import Any

from stkd_lightning.tasks.base import Score


@dataclass(frozen=True)
class Quantization:
    """The losses and gains of a student in a quantized file.

    Attributes:
        calibration: images that set the ranges of the integers, in words.
        images: test images of the metrics, in words.
        score: of the task.
        float32: metrics of the student of the checkpoint.
        quantized: metrics of the file.
        sizes: bytes of the file in float32 and of the quantized file.
        milliseconds: time of a batch in the file in float32 and in the quantized file, side by side, by batch size.
        threads: of the CPU.
    """

    calibration: str
    images: str
    score: Score
    float32: dict[str, float]
    quantized: dict[str, float]
    sizes: tuple[int, int]
    milliseconds: dict[int, tuple[float, float]]
    threads: int

    @property
    def drop(self) -> float:
        """By how much the file's score is worse, in the unit of the score: percentage points of an accuracy."""
        difference = self.score.factor * (self.float32[self.score.name] - self.quantized[self.score.name])
        return difference if self.score.higher else -difference

    @property
    def unit(self) -> str:
        """The unit of ``drop``."""
        return "points" if self.score.unit == "%" else self.score.unit

    @property
    def processor(self) -> str:
        """The processor that the times were measured on, in words."""
        return f"the CPU with {self.threads} thread{'s' if self.threads > 1 else ''}"

    @property
    def comparison(self) -> str:
        """Both scores in words."""
        before, after = (
            f"{self.score.factor * figures[self.score.name]:.2f} {self.score.unit}".rstrip()
            for figures in (self.float32, self.quantized)
        )
        return f"{self.score.label} on {self.images}: {before} in float32, {after} quantized"

    def lines(self) -> list[str]:
        """Return the figures for the output of the command."""
        exact, quantized = (f"{size / 1024:,.0f}" for size in self.sizes)
        times = [
            f"batch {batch} {after:.2f} ms ({after / before:.2f})"
            for batch, (before, after) in self.milliseconds.items()
        ]
        return [
            f"calibrated on {self.calibration}",
            self.comparison,
            f"size: {quantized} KiB, {exact} KiB in float32",
            f"time on {self.processor}, with the ratio to float32 ONNX: {', '.join(times)}",
        ]

    def table(self) -> str:
        """Return sizes and times as a Markdown table."""
        heads = [f"batch {batch}, ms" for batch in self.milliseconds]
        lines = [f"| | KiB | {' | '.join(heads)} |", f"|---|---:|{'---:|' * len(heads)}"]
        for position, name in enumerate(("float32 ONNX", "this file")):
            times = [f"{pair[position]:.2f}" for pair in self.milliseconds.values()]
            lines.append(f"| {name} | {self.sizes[position] / 1024:,.0f} | {' | '.join(times)} |")
        return "\n".join(lines)

    def plain(self) -> dict[str, Any]:
        """Return the figures for ``student.json``."""
        return {
            "calibration": self.calibration,
            "images": self.images,
            "score": self.score.name,
            "drop": self.drop,
            "float32": self.float32,
            "quantized": self.quantized,
            "bytes": _both(self.sizes),
            "milliseconds": {str(batch): _both(times) for batch, times in self.milliseconds.items()},
            "threads": self.threads,
        }


def _both(pair: tuple[float, float]) -> dict[str, float]:
    return dict(zip(("float32", "quantized"), pair, strict=True))
