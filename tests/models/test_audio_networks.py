import pytest
import torch
from torch import Tensor, nn

from stkd_lightning.losses import IUSPLoss, SPLoss
from stkd_lightning.models import NetworkInspector
from stkd_lightning.models.audio.cnn import cnn
from stkd_lightning.models.audio.crnn import crnn
from stkd_lightning.models.audio.log_mel import LogMel
from stkd_lightning.models.audio.pooling import FramePooling
from stkd_lightning.models.audio.tagger import Tagger
from stkd_lightning.tasks.clips import frame_mask
from stkd_lightning.utilities.errors import InputError
from tests.losses.properties import waves


def front_end(mels: int) -> LogMel:
    return LogMel(8000, mels=mels, window=200, hop=80, n_fft=512, f_min=125, f_max=3800)


def networks() -> dict[str, Tagger]:
    torch.manual_seed(0)
    return {
        "cnn6": cnn(10, "cnn6", 4, front_end=front_end(20)),
        "cnn10": cnn(10, "cnn10", 4, front_end=front_end(64)),
        "cnn14": cnn(10, "cnn14", 2, front_end=front_end(64)),
        "crnn": crnn(10, front_end=front_end(20)),
    }


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_numbers_of_parameters() -> None:
    """The literature's student has 85 thousand; CNN6 and CNN10 of PANNs have 4.8 and 5.2 million with 527 tags."""
    assert 80_000 < count(crnn(10, front_end=front_end(20))) < 90_000
    assert 280_000 < count(cnn(10, "cnn6", 16, front_end=front_end(64))) < 320_000
    assert count(cnn(10, "cnn6", 4, front_end=front_end(20))) < 25_000
    for kind, millions in (("cnn6", 4.8), ("cnn10", 5.2)):
        assert count(cnn(527, kind, front_end=front_end(64))) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("name", list(networks()))
def test_network_has_logits_frames_and_gradients(name: str) -> None:
    network, clips = networks()[name], waves(2, 4000, dtype=torch.float32)
    logits = network(clips)
    assert logits.shape == (2, 10)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    frames = network.network.frame_logits(network.front_end(clips))
    assert frames.shape[::2] == (2, 10)
    inspector = NetworkInspector(network, clips[:1])
    (shape,) = inspector.shapes([inspector.layers.frames])
    assert len(shape) == 3
    assert shape[1] == frames.shape[1]
    assert len(inspector.shapes(inspector.layers.stages)) == len(inspector.layers.stages)


def test_losses_find_their_layers() -> None:
    student, teacher = (NetworkInspector(networks()[n], torch.zeros(1, 4000)) for n in ("crnn", "cnn10"))
    iusp, sp = IUSPLoss(), SPLoss()
    iusp.prepare(student, teacher)
    assert iusp.features.student == iusp.features.teacher == ("network.frames",)
    sp.prepare(student, teacher)
    assert sp.features.student == ("network.frames.convolution",)


def padded(clips: Tensor, longest: int) -> Tensor:
    mask = torch.ones(len(clips), clips.shape[1])
    return nn.functional.pad(torch.stack([clips, mask], 1), (0, longest - clips.shape[1]))


def test_padding_changes_no_logit_of_the_recurrent_network() -> None:
    """It sees nothing that follows. 4040 samples have 49 frames and 23 of the network; padded they are 24 of 47."""
    network = networks()["crnn"].eval()
    clips = waves(2, 4040, dtype=torch.float32) / 2
    torch.testing.assert_close(network(padded(clips, 8080)), network(clips), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kind", ["cnn6", "cnn10"])
def test_a_convolutional_network_does_not_hear_padding(kind: str) -> None:
    """Of 2680 samples it counts 33 frames, the last of which ends at sample 2760; alone they have 32."""
    network = networks()[kind]
    network(waves(4, 8000, dtype=torch.float32))  # BatchNorm's shifts are not zero
    network.eval()
    clips = waves(2, 2680, dtype=torch.float32) / 2
    silent, loud = padded(clips, 5360), padded(clips, 5360)
    loud[:, 0, 2760:] = waves(2, 2600, dtype=torch.float32)
    torch.testing.assert_close(network(loud), network(silent), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(network(silent), network(clips), rtol=0, atol=0.02)


def test_many_frames_are_counted_exactly_in_bfloat16() -> None:
    frames = torch.ones(1, 511, 1, dtype=torch.bfloat16)
    mask = torch.arange(511) < torch.tensor([[499]])
    assert FramePooling("mean", 1)(frames, mask).item() == 1


def test_compiled_gradients_of_the_maximum_are_finite_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), FramePooling("max", 4))
    with torch.autocast("cpu", torch.bfloat16):
        torch.compile(network)(torch.randn(2, 7, 3)).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("kind", ["mean", "max", "mean_max", "attention"])
def test_pooling_leaves_padding_out(kind: str) -> None:
    torch.manual_seed(0)
    pooling = FramePooling(kind, 3)
    frames = waves(2, 6, 3, dtype=torch.float32)
    mask = frame_mask(6, torch.arange(60) < torch.tensor([[60], [31]]))
    assert mask.sum(1).tolist() == [6, 4]
    pooled = pooling(frames, mask)
    torch.testing.assert_close(pooled[:1], pooling(frames[:1]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(pooled[1:], pooling(frames[1:, :4]), rtol=1e-6, atol=1e-6)


def test_settings_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="network 'cnn7': unknown; did you mean cnn6"):
        cnn(10, "cnn7", front_end=front_end(20))
    with pytest.raises(InputError, match="pooling 'mena': unknown; did you mean mean"):
        crnn(10, front_end=front_end(20), pooling="mena")
    with pytest.raises(InputError, match="front_end.mels=4: the convolution needs 5 bands at least"):
        crnn(10, front_end=front_end(4))
