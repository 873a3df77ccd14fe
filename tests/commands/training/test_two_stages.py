"""Spirit Distillation as one command: a front that learns without labels, then a student with a teacher's rest."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soak
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from stkd_lightning.commands.training.features import FeatureStage, front_recipe, plan_features
from stkd_lightning.commands.training.pretrain import get_or_train
from stkd_lightning.commands.training.resume import EarlierRun
from stkd_lightning.data import RawData, RawMasks
from stkd_lightning.data.module import ArrayDataModule
from stkd_lightning.inference.provenance import StudentProvenance
from stkd_lightning.models import AdaptedInput, DilatedResNet, FeatureTap, SpiritStudent, cut
from stkd_lightning.models.build import build_network
from stkd_lightning.models.input_adapter import InputSpec, for_data
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.tasks.representation import Representation
from stkd_lightning.utilities.errors import InputError
from stkd_lightning.utilities.paths import conf_dir
from tests.conftest import Command
from tests.tasks.squares import SquaresDataModule

ROOT = Path(__file__).parents[3]
RUN = [
    "dataset=_masks", "dataset._target_=tests.tasks.squares.SquaresDataModule", "student=dilated_resnet",
    "student.width=2", "teacher=dilated_resnet", "teacher.network.width=4", "teacher.max_epochs=1",
    "teacher.min_accuracy=0", "loss=spirit", "logger=csv", "trainer=cpu", "trainer.max_epochs=2", "optimizer=adamw",
    "precision=32-true", "compile=false", "dataset.train_images=8", "cache_dir=cache",
    "+feature_distillation.dataset.train_images=null", "feature_distillation.max_epochs=3",
]  # fmt: skip


class WithoutLabels(SquaresDataModule):
    """The same images; no pixel has a class."""

    def read(self, folder: Path) -> RawData:
        data = super().read(folder)
        for name, split in data.splits.items():
            samples = [(image, np.full_like(mask, 255)) for image, mask in split.samples]
            data.splits[name] = RawMasks(split.sizes, samples)
        return data


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder from which commands import the data set."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    return tmp_path


def settings(folder: Path, *overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        options = [*RUN, f"dataset.data_dir={folder / 'data'}", f"cache_dir={folder / 'cache'}", "run_dir=run"]
        config = compose("train", [*options, "method=spirit", *overrides])
    config.num_classes, config.num_samples = 3, 24
    return config


def planned(folder: Path, *overrides: str) -> tuple[DictConfig, ArrayDataModule, FeatureStage]:
    config = settings(folder, *overrides)
    data = instantiate(config.dataset)
    stage = plan_features(config, data)
    assert stage is not None
    return config, data, stage


def built(folder: Path, *overrides: str) -> torch.nn.Module:
    config, data, stage = planned(folder, *overrides)
    return build_network(config.distilled, data, **stage.input)


def test_one_command_trains_both_stages(command: Command, here: Path) -> None:
    done = command("train", *RUN, "hydra.run.dir=run", cwd=here)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if ": training " in line]
    assert [line.partition(":")[0] for line in lines] == ["teacher", "student's front", "student"]
    assert "training DilatedResNet-w2 on squares for 3 epochs" in lines[1]
    summary = json.loads((here / "run" / "summary.json").read_text())
    student, teacher = DilatedResNet(3, width=2), DilatedResNet(3, width=4)
    parts = cut.front(student, "layer3"), cut.rest(teacher, "layer3")
    front, rest = (sum(p.numel() for p in part.parameters()) for part in parts)
    adapter = 16 * 32 + 32
    assert summary["front"]["parameters"] == front + adapter
    assert summary["student"]["parameters"] == front + adapter + rest
    assert summary["student"]["flops"] - summary["front"]["flops"] > 0
    assert summary["front"]["test"]["last"].keys() == {"representation_error"}
    (entry,) = (here / "cache" / "trained").glob(summary["front"]["key"])
    assert json.loads((entry / "about.json").read_text())["role"] == "student's front"
    origin = StudentProvenance.from_checkpoint(here / "run" / "checkpoints" / "last.ckpt")
    assert (origin.front, origin.teacher) == (summary["front"]["key"], summary["teacher"]["digest"])

    changed = [o for o in RUN if "trainer.max_epochs" not in o]
    done = command("train", *changed, "trainer.max_epochs=1", "hydra.run.dir=other", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "student's front: already trained, reused from" in done.stdout
    done = command("evaluate", "checkpoint=run/checkpoints/last.ckpt", "trainer=cpu", "trust=true", "output=out.json",
                   cwd=here)  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured = json.loads((here / "out.json").read_text())["miou"]
    assert measured == pytest.approx(summary["student"]["test"]["last"]["miou"], rel=1e-4)


def test_the_students_parts_come_from_both_trainings(command: Command, here: Path) -> None:
    """After no step of the second stage the front is that of the first, and the rest is the teacher's."""
    done = command("train", *RUN, "trainer.max_epochs=1", "optimizer.lr=1e-18", "feature_distillation.lr=0.002",
                   "teacher.lr=0.002", "hydra.run.dir=run", cwd=here)  # fmt: skip
    assert done.returncode == 0, done.stderr
    summary = json.loads((here / "run" / "summary.json").read_text())
    state = read_checkpoint(here / "run" / "checkpoints" / "last.ckpt")["state_dict"]
    front = read_checkpoint(here / "cache" / "trained" / summary["front"]["key"] / "last.ckpt")["state_dict"]
    teacher = read_checkpoint(summary["teacher_checkpoint"])["state_dict"]
    learned = {name: value for name, value in state.items() if name.endswith(("weight", "bias"))}
    origins = {name: teacher[name.replace("rest.", "")] if ".rest." in name else front[name] for name in learned}
    torch.testing.assert_close(learned, origins, rtol=0, atol=1e-12)
    (optimizer,) = read_checkpoint(here / "run" / "checkpoints" / "last.ckpt")["optimizer_states"]
    rates = [group["initial_lr"] for group in optimizer["param_groups"]]
    assert rates == pytest.approx([1e-18, 1e-19], rel=1e-6)


def test_the_first_stage_reads_no_label(tmp_path: Path) -> None:
    fronts = []
    for name in ("tests.tasks.squares.SquaresDataModule", f"{__name__}.WithoutLabels"):
        config, data, stage = planned(tmp_path / name, f"dataset._target_={name}")
        torch.manual_seed(0)
        recipe = front_recipe(config, stage.dataset, DilatedResNet(3, width=4), "0", (data, stage.data))
        front = get_or_train(recipe, stage.data, tmp_path / name / "trained")
        fronts.append((front.network.state_dict(), front.fitted.test["last"]))
    assert fronts[0][1] == fronts[1][1]
    for key, value in fronts[0][0].items():
        assert torch.equal(value, fronts[1][0][key]), key


def test_the_front_learns_the_teachers_representation(tmp_path: Path) -> None:
    config, data, stage = planned(tmp_path, "feature_distillation.max_epochs=30", "feature_distillation.lr=0.01")
    torch.manual_seed(0)
    teacher = DilatedResNet(3, width=4)
    recipe = front_recipe(config, stage.dataset, teacher, "0", (data, stage.data))
    front = get_or_train(recipe, stage.data, tmp_path / "trained")
    images = torch.cat([batch[0] for batch in stage.data.test_dataloader()])
    with torch.no_grad():
        expected = FeatureTap(teacher.eval(), ["layer3"])(images).features["layer3"]
        errors = [
            float((part.eval()(images) - expected).square().mean())
            for part in (front.network, recipe.build(stage.data))
        ]
    assert front.fitted.test["last"]["representation_error"] == pytest.approx(errors[0], rel=1e-3)
    assert errors[0] < errors[1] / 4
    assert recipe.task(data) == Representation(tuple(expected.shape[1:]))


def test_both_stages_see_one_normalization(tmp_path: Path) -> None:
    """The first stage's data have another mean; the second adapts its images to it, and the teacher's front too."""
    changes = ["+feature_distillation.dataset.unequal=true", "+dataset.unequal=false", "dataset.crop=[16,24]"]
    config, data, stage = planned(tmp_path, *changes)
    assert stage.data.mean != data.mean
    student = build_network(config.distilled, data, **stage.input)
    assert isinstance(student, AdaptedInput)
    assert isinstance(student.network, SpiritStudent)
    pixels = torch.rand(2, 3, 16, 24)

    def normalized(images: ArrayDataModule) -> torch.Tensor:
        return (pixels - torch.tensor(images.mean).view(3, 1, 1)) / torch.tensor(images.std).view(3, 1, 1)

    teacher = for_data(DilatedResNet(3, width=4), InputSpec(mean=(0.5,) * 3, std=(0.25,) * 3), image_size=(16, 24),
                       mean=data.mean, std=data.std).eval()  # fmt: skip
    recipe = front_recipe(config, stage.dataset, teacher, "0", (data, stage.data))
    front = recipe.build(stage.data)
    student.network.start_from(front, teacher)
    with torch.no_grad():
        represented = front.eval()(normalized(stage.data))
        logits = cut.rest(teacher, "layer3").eval()(represented, pixels)
        torch.testing.assert_close(student.eval()(normalized(data)), logits, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(
            recipe.represents(normalized(stage.data)).logits, cut.front(teacher, "layer3")(normalized(data)),
            rtol=1e-3, atol=1e-4,
        )  # fmt: skip


def test_a_front_keeps_the_resolution_of_its_map(tmp_path: Path) -> None:
    """Also behind another normalization, as of a student with pretrained weights."""
    config, data, stage = planned(tmp_path)
    recipe = front_recipe(config, stage.dataset, DilatedResNet(3, width=4), "0", (data, stage.data))
    front = recipe.build(stage.data, mean=(0.5,) * 3, std=(0.25,) * 3)
    assert isinstance(front, AdaptedInput)
    assert front(torch.zeros(2, 3, 40, 64)).shape == (2, 32, 5, 8)


def test_the_key_knows_all_that_shapes_a_front(tmp_path: Path) -> None:
    def key(*overrides: str, digest: str = "0") -> str:
        config, data, stage = planned(tmp_path, *overrides)
        return front_recipe(config, stage.dataset, DilatedResNet(3, width=4), digest, (data, stage.data)).key(
            stage.data
        )

    first = key()
    same = ["distilled.head=compact", "distilled.rest_rate=0.5", "trainer.max_epochs=9", "teacher.max_epochs=9",
            "dataset.train_images=4", "optimizer.lr=0.002", "dataset.workers=1"]  # fmt: skip
    assert {key(override, "feature_distillation.lr=0.002") for override in same} == {
        key("feature_distillation.lr=0.002")
    }
    others = ["seed=1", "student.width=3", "distilled.student_cut=layer2", "distilled.teacher_cut=layer2",
              "feature_distillation.max_epochs=4", "feature_distillation.lr=0.5", "optimizer.weight_decay=0.5",
              "scheduler=cosine", "dataset.batch_size=4", "+feature_distillation.dataset.flip=false"]  # fmt: skip
    keys = {first, key(digest="1"), *(key(override) for override in others)}
    assert len(keys) == 2 + len(others)


def test_the_key_knows_the_teachers_normalization(tmp_path: Path) -> None:
    """A teacher without an input of its own is normalized as the run's data, which may differ from the stage's."""
    config, data, stage = planned(tmp_path)
    other = SimpleNamespace(mean=(0.1, 0.2, 0.3), std=data.std, image_size=data.image_size)
    recipes = [
        front_recipe(config, stage.dataset, DilatedResNet(3, width=4), "0", (of, stage.data)) for of in (data, other)
    ]
    assert isinstance(recipes[1].represents.network, AdaptedInput)
    assert recipes[0].key(stage.data) != recipes[1].key(stage.data)


WORDS: dict[str, tuple[list[str], str]] = {
    "an unknown cut": (["distilled.student_cut=layer4"], "cut of DilatedResNet 'layer4': unknown; did you mean layer"),
    "no map": (["distilled.teacher_cut=context"], "DilatedResNet: cannot be cut at 'context'"),
    "a connection": (["distilled.teacher_cut=layer3.0.conv1"], "a connection around the cut"),
    "an option of the data": (
        ["+feature_distillation.dataset.proximty=1"],
        "option of feature_distillation.dataset 'proximty': unknown",
    ),
    "other classes": (
        ["teacher.network.num_classes=5"],
        "teacher: network DilatedResNet: gives (5, 16, 24) values for an image, the data has 3 classes",
    ),
    "another student": (["distilled=null"], "feature_distillation: trains the front of a student that is cut"),
}


@pytest.mark.parametrize("mistake", WORDS)
def test_what_does_not_fit_is_refused_before_training(mistake: str, tmp_path: Path) -> None:
    overrides, words = WORDS[mistake]
    with pytest.raises((InputError, InstantiationException)) as error:
        built(tmp_path, *overrides)
    cause = error.value if isinstance(error.value, InputError) else error.value.__cause__
    assert isinstance(cause, InputError)
    assert words in str(cause)
    assert not (tmp_path / "cache" / "trained").exists()


def test_a_refused_cut_ends_the_command(command: Command, here: Path) -> None:
    done = command("train", *RUN, "distilled.student_cut=layer4", "hydra.run.dir=run", cwd=here)
    assert done.returncode == 2
    assert "cut of DilatedResNet 'layer4': unknown; did you mean layer" in done.stderr
    assert "training" not in done.stdout
    assert not (here / "cache" / "trained").exists()


def test_another_first_stage_is_not_resumed(tmp_path: Path) -> None:
    origin = cast(Any, OmegaConf.create({"front": "a"}))
    EarlierRun(tmp_path, origin, None).check_front("a")
    with pytest.raises(InputError, match="resume: the first stage differs from the first stage of"):
        EarlierRun(tmp_path, origin, None).check_front("b")


LONG = ["feature_distillation.max_epochs=40", "trainer.max_epochs=40", "checkpoint_minutes=0.001"]


def started(folder: Path, until: str) -> None:
    """Start a run, and kill it when a file exists."""
    run = subprocess.Popen(
        [sys.executable, "-m", "stkd_lightning.train", *RUN, *LONG, "hydra.run.dir=run"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not list(folder.glob(until)):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.communicate()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, fork_server: Any) -> Path:
    """An uninterrupted run with its cache."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tests").symlink_to(ROOT / "tests")
    done = subprocess.run(
        [sys.executable, "-m", "stkd_lightning.train", *RUN, *LONG, "hydra.run.dir=run"],
        cwd=folder, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def entries(folder: Path) -> dict[str, Path]:
    """Return the cached trainings of a run by their roles."""
    paths = (folder / "cache" / "trained").glob("*/about.json")
    return {json.loads(path.read_text())["role"]: path.parent for path in paths}


def with_cache(whole: Path, folder: Path, *roles: str) -> None:
    """Copy some trainings to the cache of a new run."""
    for role in roles:
        entry = entries(whole)[role]
        shutil.copytree(entry, folder / "cache" / "trained" / entry.name)


MOMENTS = {
    "in the first stage": (["teacher"], "cache/trained/*.partial/before_last.ckpt"),
    "between the stages": (["teacher", "student's front"], None),
    "in the second stage": (["teacher"], "run/checkpoints/before_last.ckpt"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_ends_as_one_that_is_not(moment: str, whole: Path, command: Command, here: Path) -> None:
    roles, until = MOMENTS[moment]
    with_cache(whole, here, *roles)
    if until is not None:
        started(here, until)
    if moment == "in the second stage":
        shutil.rmtree(entries(here)["student's front"])  # the checkpoint holds the student
    done = command("train", *RUN, *LONG, "hydra.run.dir=run", "resume=auto", cwd=here)
    assert done.returncode == 0, done.stderr
    assert ("student's front: training" in done.stdout) == (moment == "in the first stage")
    assert ("student's front: resumed" in done.stdout) == (moment == "in the first stage")
    assert ("student: resumed" in done.stdout) == (moment == "in the second stage")
    differences = soak.compared(whole / "run", here / "run")
    # Its figures were in the cache.
    assert differences == (["front"] if moment == "in the second stage" else [])
    if moment == "in the first stage":
        fronts = [read_checkpoint(entries(f)["student's front"] / "last.ckpt")["state_dict"] for f in (whole, here)]
        assert all(torch.equal(value, fronts[1][name]) for name, value in fronts[0].items())


def test_resume_refuses_other_settings_of_the_first_stage(whole: Path, command: Command) -> None:
    done = command("train", *RUN, *LONG, "feature_distillation.max_epochs=41", "hydra.run.dir=run", "resume=auto",
                   cwd=whole)  # fmt: skip
    assert done.returncode == 2
    assert "resume: feature_distillation.max_epochs=41, but" in " ".join(done.stderr.split())
