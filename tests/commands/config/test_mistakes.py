"""A mistake gets one line, exit code 2, no run folder, and no wait for torch where the configuration shows it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from stkd_lightning.models import create_model
from tests.conftest import Command

ENSEMBLE = ["teacher=ensemble", "+teacher@teacher.members.a=resnet8"]
CONFIGURATION = [
    (["student=resnet8x5"], "student 'resnet8x5': unknown; did you mean resnet8x4"),
    (["loss=stdk"], "loss 'stdk': unknown; did you mean stkd?"),
    (["experiment=cifar100/resnet32x4_resnet8"], "did you mean cifar100/resnet32x4_resnet8x4"),
    (["loss.alhpa=0.5"], "option 'loss.alhpa': unknown; did you mean loss.alpha? all of loss: loss.alpha, "),
    (["alpha=0.5"], "option 'alpha': unknown; did you mean loss.alpha or mixup.alpha?"),
    (["studnet=resnet8"], "option 'studnet': unknown; did you mean student?"),
    (["loss.alpha=1.5"], "loss.alpha=1.5: must be in [0, 1]; the nearest is 1"),
    (["loss.alpha=high"], "loss.alpha='high': must be a number in [0, 1]"),
    (["loss.temperature=0"], "loss.temperature=0: must be above 0"),
    (["mixup.alpha=0"], "mixup.alpha=0: must be above 0"),
    (["dataset.batch_size=0"], "dataset.batch_size=0: must be a whole number of at least 1"),
    (["seed=-1"], "seed=-1: must be a whole number of at least 0"),
    (["student=timm"], "option 'student.name': has no value; set student.name=VALUE"),
    (["loss.alpha=["], "loss.alpha=[: "),
    (["-m", "loss.alpha=0.5,1.5"], "loss.alpha=1.5: must be in [0, 1]"),
    (["-m", "student=glob(resnet*)", "loss.temperature=-1"], "loss.temperature=-1: must be above 0"),
    (["-m", "student=glob(resnext*)"], "student=glob(resnext*): matches no choice"),
    (["-m", "loss=kd,stdk"], "loss 'stdk': unknown; did you mean stkd?"),
    (["--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
    (["teacher.checkpoint=nowhere.pth"], "checkpoint nowhere.pth: no such file"),
    (["teacher=chain"], "option 'teacher.run': has no value; set teacher.run=VALUE"),
    (["teacher=chain", "teacher.run=nowhere"], "teacher.run=nowhere: no such folder"),
    (["teacher=chain", "teacher.run=.", "teacher.checkpoint=a.pth"], "teacher.checkpoint: is read from teacher.run"),
    (["teacher=ensemble"], "teacher.members: an ensemble needs members; add one with +teacher@teacher.members.a="),
    (["teacher=ensemble", "teacher.members={a:1}"], "teacher.members.a: is no teacher; add it with +teacher@teacher."),
    ([*ENSEMBLE, "teacher.members.a.chekpoint=a.pth"], "unknown; did you mean teacher.members.a.checkpoint?"),
    ([*ENSEMBLE, "teacher.members.a.checkpoint=nowhere.pth"], "checkpoint nowhere.pth: no such file"),
    ([*ENSEMBLE, "teacher.members.a.mean=[0,0,0]"], "teacher.members.a.mean: describes a teacher's checkpoint, but"),
    ([*ENSEMBLE, "teacher.members.a.seed=-1"], "teacher.members.a.seed=-1: must be a whole number of at least 0"),
    ([*ENSEMBLE, "teacher.checkpoint=a.pth"], "teacher.checkpoint: an ensemble has none; set teacher.members.a.chec"),
    ([*ENSEMBLE, "teacher.weights={b:1}"], "teacher.weights 'b': unknown; all: a"),
    ([*ENSEMBLE, "teacher.weights={a:0}"], "teacher.weights.a=0: must be above 0"),
    ([*ENSEMBLE, "teacher.weights=2"], "teacher.weights=2: must be weights by member, such as {a: 2, b: 1}"),
    ([*ENSEMBLE, "teacher.weights.a=2"], 'teacher.weights is set as a whole; write "teacher.weights={a:2}"'),
    ([*ENSEMBLE, "teacher.temperature=0"], "teacher.temperature=0: must be above 0"),
    (["teacher.checkpoint_key=student"], "teacher.checkpoint_key: describes a teacher's checkpoint, but"),
    (["teacher.checkpoint=pretrained", "teacher.checkpoint_key=1"], "teacher.checkpoint_key=1: must be a name"),
    (["trainer.max_epochs=abc"], "error: trainer.max_epochs='abc': must be a whole number of at least 1"),
    (["teacher.max_epochs=0"], "teacher.max_epochs=0: must be a whole number of at least 1"),
    (
        ["teacher.mean=[0.5,0.5,0.5]"],
        "teacher.mean: describes a teacher's checkpoint, but teacher.checkpoint is not set",
    ),
    (
        ["trainer=ddp", "trainer.devices=3"],
        "dataset.batch_size=64: must be a multiple of the 3 ranks; the nearest is 63",
    ),
    (["+trainer.fast_dev_run=true"], "trainer.fast_dev_run: writes no checkpoint; experiment=smoke runs one batch"),
    (
        ["loss=kd", "--epochs", "3", "--lr=0.1"],
        "--epochs --lr: no such flag; write trainer.max_epochs=3 optimizer.lr=0.1",
    ),
    (["experiment=quickstart", "-m", "loss=kd,stdk"], "loss 'stdk': unknown; did you mean stkd?"),
    (["seed=inf"], "seed=inf: must be a whole number"),
    (["hydra.run.dir=file/run"], "output folder file/run: cannot be made"),
    (["precision=fp16"], "precision 'fp16': unknown; all: 16-mixed, 16-true, 32-true"),
    (["deterministic=warn"], "deterministic=warn: must be auto, true or false"),
    (
        ["deterministic=false", "+trainer.deterministic=true"],
        "trainer.deterministic=True: contradicts deterministic=false; set only one of them",
    ),
    (["deterministic=true", "+trainer.benchmark=true"], "trainer.benchmark=True: contradicts deterministic=true"),
    (["compile=maybe"], "compile=maybe: must be auto, true or false"),
    (["dataset.resident=1"], "dataset.resident=1: must be auto, true or false"),
    (["dataset.workers=0"], "dataset.workers=0: must be a whole number of at least 1"),
    (["teacher.replay=auto"], "teacher.replay=auto: must be true or false"),
    (["teacher.replay_limit=0"], "teacher.replay_limit=0: must be above 0"),
    (["dataset.sampler=class"], "dataset.sampler 'class': unknown; all: class_uniform, shuffled, superclass_uniform"),
    (["dataset.sampler_groups=0"], "dataset.sampler_groups=0: must be a whole number of at least 1"),
    (["loss=crd", "loss.losses.crd.momentum=2"], "loss.losses.crd.momentum=2: must be in [0, 1]; the nearest is 1"),
    (["loss=sp", "loss.weights.spp=1"], "option 'loss.weights.spp': unknown; did you mean loss.weights.sp?"),
    (["hydra.sweeper.params.loss=ce,kd"], "hydra.sweeper.params.loss=ce: Unexpected type"),
    (["~loss"], "~loss: every run needs loss; choose another with loss=VALUE"),
    (["trainer.limit_test_batches=0"], "trainer.limit_test_batches=0: must be a whole number"),
    (["trainer.limit_train_batches=0"], "trainer.limit_train_batches=0: must be a whole number of at least 1"),
    (["trainer.max_steps=0"], "trainer.max_steps=0: must be at least 1, or -1: no limit"),
    (["+trainer.enable_checkpointing=false"], "trainer.enable_checkpointing: must be true; a run is resumed"),
    (["+trainer.callbacks=[]"], "trainer.callbacks: is set by the group callbacks"),
    (["+trainer.val_check_interval=0"], "trainer.val_check_interval=0: must be a whole number of at least 1"),
    (["seed=4294967296"], "seed=4294967296: must be at most 4294967295"),
    (["loss.temperature=1e308"], "loss.temperature=1e+308: must be between 1e-18 and 1e+18"),
    (["dataset.padding=1e9"], "dataset.padding=1000000000.0: must be at most 256"),
    (["cache_dir=file/cache"], "output folder file/cache: cannot be made"),
]


@pytest.mark.parametrize(
    ("arguments", "words"), CONFIGURATION, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_configuration(arguments: list[str], words: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = command("train", *arguments)
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert words in done.stderr
    assert done.stdout == ""
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["student=resnet8x5"], ["loss.alpha=2"],
                                       ["trainer.max_epoch=3"], ["optimizer.learning_rate=1"]])  # fmt: skip
def test_torch_is_not_loaded_for_what_the_configuration_shows(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom stkd_lightning.train import main\nsys.argv = ['train', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'lightning', 'torchvision', 'wandb', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_shows_choices_and_commands(command: Command) -> None:
    done = command("train", "--help")
    assert done.returncode == 0
    assert "resnet8x4" in done.stdout
    assert "python -m stkd_lightning.train experiment=quickstart" in done.stdout
    assert not re.search(r"[ /]_", done.stdout.partition("== Choices")[2].partition("==")[2].partition("==")[0])


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"]])
def test_a_reader_that_leaves_ends_help_without_a_word(arguments: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does when it has its lines
    try:
        run = [sys.executable, "-m", "stkd_lightning.train", *arguments]
        done = subprocess.run(run, cwd=tmp_path, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 0


def test_a_corrupt_image_is_named(command: Command, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(tmp_path / "photos" / split / name / "1.png")
    (tmp_path / "photos" / "test" / "dog" / "2.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = command("train", "dataset=image_folder", "dataset.data_dir=photos")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: image photos/test/dog/2.jpg: cannot be read")
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


@pytest.mark.parametrize("md5", ["", "c58f30108f718f92721af3b95e74349a"])
def test_a_broken_archive_is_named(md5: str, command: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b broken")
    done = command("train", "dataset=cifar10", f"dataset.md5='{md5}'")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: archive data/cifar-10-python.tar.gz: broken")
    assert [p.name for p in tmp_path.rglob("*")] == ["data", "cifar-10-python.tar.gz"]


@pytest.fixture
def checkpoints(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    torch.manual_seed(0)
    torch.save(create_model("resnet8", num_classes=10).state_dict(), folder / "untrained.pth")
    torch.save(create_model("resnet8", num_classes=100).state_dict(), folder / "hundred.pth")
    torch.save(create_model("resnet14", num_classes=10).state_dict(), folder / "deeper.pth")
    (folder / "broken.pth").write_bytes(b"PK\x03\x04 broken")
    return folder


DIGITS = ["dataset=digits", "teacher=resnet8", "student=resnet8", "trainer.max_epochs=1"]
RUNTIME = [
    (["dataset=cifar100", "dataset.download=false"], "cifar-100-python is missing; get it with: mkdir -p data && curl"),
    (["dataset=image_folder", "dataset.data_dir=photos"], "dataset image_folder: photos/train is missing"),
    ([*DIGITS, "teacher.checkpoint=nowhere.pth"], "checkpoint nowhere.pth: no such file"),
    ([*DIGITS, "teacher.checkpoint=weights/broken.pth"], "checkpoint weights/broken.pth: damaged"),
    ([*DIGITS, "teacher.checkpoint=weights/deeper.pth"], "does not fit ResNet: unexpected layer1.1"),
    ([*DIGITS, "teacher.checkpoint=weights/hundred.pth"], "made for 100 classes, the data has 10"),
    ([*DIGITS, "teacher.checkpoint=weights/untrained.pth"], "is below teacher.min_accuracy=0.2"),
    ([*DIGITS, "teacher.checkpoint=pretrained"], "teacher.checkpoint=pretrained: needs a network with"),
    ([*DIGITS, "student.weights=weights/deeper.pth"], "checkpoint weights/deeper.pth: does not fit"),
    ([*DIGITS, "dataset.batch_size=5000"], "dataset.batch_size=5000: there are only 1211 training samples"),
    ([*DIGITS, "teacher.replay=true", "teacher.replay_limit=1e-6"], "more than teacher.replay_limit=1e-06; raise it"),
    ([*DIGITS, "loss=sp", "loss.losses.sp.student_layers=layer9"], "feature of ResNet 'layer9': unknown; did you mean"),
    ([*DIGITS, "loss=at", "loss.losses.at.teacher_layers=[fc]"], "but 'fc' of ResNet gives (B, 10); its maps: layer1"),
    (
        [
            *DIGITS,
            "loss=vid",
            "loss.losses.vid.student_layers=[layer1,layer2]",
            "loss.losses.vid.teacher_layers=[layer3]",
        ],
        "compares layer with layer, but reads 2 of the student",
    ),
    ([*DIGITS, "loss=sp", "dataset.batch_size=1"], "dataset.batch_size=1: loss=sp compares samples; the nearest is 2"),
    (
        [*DIGITS, "loss=dkd", "dataset.unlabeled_ratio=1", "dataset.train_fraction=0.5"],
        "dataset.unlabeled_ratio: DKDLoss reads the label of each image, which unlabelled ones have not; loss=kd, stkd",
    ),
    (
        [*DIGITS, "loss=ce", "dataset.unlabeled_ratio=1", "dataset.train_fraction=0.5"],
        "dataset.unlabeled_ratio: a loss without a teacher learns nothing from unlabelled images",
    ),
    (
        [*DIGITS, "loss=stkd", "mixup.partner=other_class", "dataset.unlabeled_ratio=1"],
        "mixup.partner=other_class: unlabelled images have no class; set mixup.partner=any",
    ),
    ([*DIGITS, "loss=kd", "dataset.unlabeled_ratio=1"], "dataset.unlabeled_ratio=1.0: there are no unlabelled images"),
    (
        ["trainer.devices=2", "dataset.batch_size=14", "dataset.unlabeled_ratio=1.5"],
        "dataset.unlabeled_ratio=1.5: 2 ranks cannot share a batch of 35 images; the nearest batch size is 12",
    ),
    ([*DIGITS, "loss=crd", "mixup=beta"], "mixup: CRDLoss is not defined on virtual samples; train with mixup=none"),
    ([*DIGITS, "loss=pkt", "teacher.replay=true"], "teacher.replay=true: PKTLoss reads features of the teacher"),
    ([*DIGITS, "dataset.sampler=superclass_uniform"], "these data have no superclasses; class_uniform needs none"),
    ([*DIGITS, "dataset.sampler=class_uniform", "dataset.sampler_groups=7"], "nearest divisor of 64: 4 or 8"),
    (
        [*DIGITS, "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "+trainer.sync_batchnorm=true"],
        "trainer.sync_batchnorm=true: torch has no synchronized BatchNorm on CPUs; leave it out, or train on GPUs",
    ),
    ([*DIGITS, "~teacher.optimizer"], "option 'teacher.optimizer': is needed, but it was deleted"),
    ([*DIGITS, "trainer.num_nodes=2"], "trainer.num_nodes=2: start the command on each machine with torchrun or srun"),
    ([*DIGITS, "trainer=gpu"], "No supported gpu backend found"),
    ([*DIGITS, "+loss.alhpa=1"], "unexpected keyword argument 'alhpa'"),
    ([*DIGITS, "student._target_=nowhere.Network"], "nowhere.Network"),
]


@pytest.mark.parametrize(("arguments", "words"), RUNTIME, ids=lambda v: v[-1] if isinstance(v, list) else "")
def test_files_and_data(arguments: list[str], words: str, command: Command, checkpoints: Path, tmp_path: Path) -> None:
    done = command("train", *arguments)
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if "error" in line.lower()]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("error: ")
    assert words in errors[0]
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]  # no run folder


@pytest.mark.skipif(sys.platform != "linux", reason="/proc permits to write and refuses")
def test_a_folder_that_cannot_be_made_is_named(command: Command, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for folder, words in (("/proc/x", "cannot be made in /proc"), ("link/run", "link is a link to nothing")):
        done = command("train", *DIGITS, f"hydra.run.dir={folder}")
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: output folder {folder}: ")
        assert words in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_mistake_in_one_job_of_a_sweep_leaves_no_empty_folders(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", *DIGITS, "teacher.checkpoint=a.pth,b.pth")
    assert done.returncode == 2
    assert "error: checkpoint a.pth: no such file" in done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_dir() and not any(p.iterdir())]


def test_a_folder_that_was_there_is_left(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    done = command("train", *DIGITS, "teacher.checkpoint=nowhere.pth", "hydra.run.dir=mine/run")
    assert done.returncode == 2
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["mine"]
