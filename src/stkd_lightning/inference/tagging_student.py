"""A distilled tagging network for inference, without a data set."""

from pathlib import Path

import torch
from torch import Tensor

from stkd_lightning.data.audio_files import LEVELS, read_audio
from stkd_lightning.inference.student import Paths, Student, listed
from stkd_lightning.inference.tags import TagPrediction, predicted_tags
from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.utilities.errors import InputError


class TaggingStudent(Student):
    """A frozen tagging network in evaluation mode: of sound clips of any length, or of images.

    Args:
        network: clips ``(B, T)`` in [-1, 1), or normalized images ``(B, 3, S, S)``, to logits ``(B, C)``.
        facts: facts about the student.
    """

    @property
    def sample_rate(self) -> int | None:
        """Hz of the clips; ``None`` of images."""
        return self.facts.sample_rate

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits ``(B, C)``; the sigmoid of a logit is the probability of the tag."""
        return super().forward(inputs)

    def read(self, path: Path) -> Tensor:
        """Return the input ``(1, ...)`` of a file, on the CPU.

        Raises:
            InputError: a file that cannot be read.
        """
        if self.sample_rate is None:
            return super().preprocess(path)
        return torch.from_numpy(read_audio(path, self.sample_rate))[None].float() / LEVELS

    def preprocess(self, paths: Paths) -> Tensor:
        """Read files as input of the network: clips of equal lengths ``(B, T)``, or images ``(B, 3, S, S)``.

        Raises:
            InputError: a file that cannot be read, or clips of unequal lengths.
        """
        if self.sample_rate is None:
            return super().preprocess(paths)
        files = listed(paths)
        clips = [self.read(path) for path in files]
        for path, clip in zip(files, clips, strict=True):
            if clip.shape != clips[0].shape:
                raise InputError(f"clips {files[0]} and {path}: have unequal lengths; read them one by one")
        return torch.cat(clips) if clips else torch.empty(0, self.sample_rate)

    def frame_logits(self, inputs: Tensor) -> Tensor | None:
        """Return logits ``(B, T, C)`` of the frames of clips; ``None`` if the network has no frames."""
        if not isinstance(self.network, Tagger):
            return None
        return self.network.network.frame_logits(self.network.front_end(inputs))

    def seconds(self, inputs: Tensor) -> float | None:
        """Return the length of clips ``(B, T)``; ``None`` for images."""
        return None if self.sample_rate is None else inputs.shape[1] / self.sample_rate

    def predict(  # type: ignore[override]  # tags instead of classes
        self, paths: Paths, *, frames: bool = False
    ) -> list[TagPrediction]:
        """Return the probabilities of the tags of files, in their order.

        Args:
            paths: a path or a sequence of paths.
            frames: also give the probabilities of each frame.

        Raises:
            InputError: a file that cannot be read.
        """
        results = []
        for prediction in predicted_tags(self, listed(paths), frames=frames):
            if isinstance(prediction, InputError):
                raise prediction
            results.append(prediction)
        return results
