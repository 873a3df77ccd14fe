"""Every method trains, on digits as a user compares them and on CIFAR-100 with networks of different families."""

import json
from pathlib import Path

import pytest
import torch

from stkd_lightning.models import create_model
from stkd_lightning.utilities.paths import conf_dir
from tests.conftest import Command

DENSE = ("cwd", "dsd", "dsd_cirkd", "ifvd", "pixel_kd", "skd")  # need a class for each pixel
HEARING = ("iusp", "kd_iusp")  # need networks that hear clips
VIEWS = ("mlkd", "mlkd_standardization")  # need two views of each image
OTHERS = (*DENSE, *HEARING)
LOSSES = sorted(p.stem for p in (conf_dir() / "loss").glob("*.yaml") if p.stem not in OTHERS)
CLASSIFIERS = f"loss=glob(*,exclude=[{','.join(OTHERS)}])"
SHORT = ["trainer.max_epochs=1", "teacher.max_epochs=1", "teacher.min_accuracy=0", "logger=csv", "baseline=false"]


def test_every_method_in_one_multirun(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "experiment=quickstart", CLASSIFIERS, *SHORT, "hydra.sweep.dir=sweep",
                   "cache_dir=cache")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("teacher: training") == 1
    summaries = {p.parent.name: json.loads(p.read_text()) for p in tmp_path.glob("sweep/*/summary.json")}
    assert sorted(s["loss"] for s in summaries.values()) == LOSSES
    simkd = next(s for s in summaries.values() if s["loss"] == "simkd")
    plain = next(s for s in summaries.values() if s["loss"] == "kd")
    assert simkd["student"]["parameters"] > plain["student"]["parameters"]
    rows = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert sorted(row["label"] for row in rows) == LOSSES
    assert "accuracy, %" in done.stdout


@pytest.mark.slow
def test_every_method_with_every_way_to_mix(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "experiment=quickstart", "loss=glob(*)", "mixup=none,beta,cutmix", *SHORT,
                   "hydra.sweep.dir=sweep", "cache_dir=cache", timeout=1500)  # fmt: skip
    assert done.returncode == 0, done.stderr
    skipped = [line for line in done.stdout.splitlines() if line.startswith("skipped: ")]
    assert done.stdout.index("skipped: ") < done.stdout.index("teacher: training")
    never_mixed = {f"skipped: loss=crd mixup={mixup}: mixup: CRDLoss is not defined" for mixup in ("beta", "cutmix")}
    assert {line.partition(" on virtual")[0] for line in skipped if "loss=crd" in line} == never_mixed
    undefined = {f"loss={name}" for name in (*OTHERS, "crd", *VIEWS)}
    assert {line.split()[1] for line in skipped} == undefined
    ran = {(s["loss"], s["mixup"]) for s in map(choices_of, tmp_path.glob("sweep/*/summary.json"))}
    assert ran == {(loss, way) for loss in LOSSES for way in ("none", "beta", "cutmix") if loss not in VIEWS} - {
        ("crd", "beta"), ("crd", "cutmix")
    }  # fmt: skip
    assert not [folder for folder in (tmp_path / "sweep").iterdir() if folder.is_dir() and not any(folder.iterdir())]


def choices_of(summary: Path) -> dict[str, str]:
    """Return the loss and the way to mix of a run."""
    overrides = dict(text.split("=", 1) for text in json.loads(summary.read_text())["overrides"])
    return {"loss": overrides["loss"], "mixup": overrides["mixup"]}


def test_sweep_of_undefined_methods_only_is_refused(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "experiment=quickstart", "loss=crd", "mixup=beta,cutmix", *SHORT,
                   "hydra.sweep.dir=sweep")  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2, "error: mixup: CRDLoss is not defined on virtual samples; train with mixup=none\n"
    )  # fmt: skip
    assert not (tmp_path / "sweep").exists()


def test_sweep_over_seeds_of_an_undefined_method_is_refused(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "experiment=quickstart", "loss=iusp", "seed=0,1", *SHORT, "hydra.sweep.dir=sweep")
    assert done.returncode == 2
    assert done.stderr.startswith("error: IUSPLoss: ResNet has no visible frames")


def test_a_job_in_a_process_of_its_own_is_skipped(command: Command, tmp_path: Path) -> None:
    """Jobs of several ranks run in processes of their own."""
    done = command("train", "-m", "experiment=quickstart", "loss=crd,ce", "mixup=beta", *SHORT, "trainer.strategy=ddp",
                   "trainer.devices=1", "hydra.sweep.dir=sweep")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "skipped: loss=crd: mixup: CRDLoss is not defined on virtual samples" in done.stdout
    assert sorted(p.parent.name for p in tmp_path.glob("sweep/*/summary.json")) == ["1"]
    assert (tmp_path / "sweep" / "comparison.json").is_file()


def test_simkd_of_pixels_is_refused_in_one_line(command: Command, tmp_path: Path) -> None:
    done = command("train", "experiment=quickstart_segmentation", "loss=simkd", *SHORT, "hydra.run.dir=run")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_method_of_segmentation_in_one_multirun(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "dataset=digit_canvas", "dataset.canvases=80", "dataset.test_canvases=8",
                   "dataset.batch_size=16", "teacher=dilated_resnet", "teacher.network.width=3",
                   "student=dilated_resnet", "student.width=2", f"loss=kd,{','.join(DENSE)}", *SHORT,
                   "trainer.log_every_n_steps=1", "hydra.sweep.dir=sweep", "cache_dir=cache")  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert sorted(row["label"] for row in rows) == sorted(("kd", *DENSE))
    header = (tmp_path / "sweep" / "1" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/cross_entropy", "train/pixel_kd", "train/cwd", "train/cwd_feature"} <= set(header)


def test_a_comparison_ends_in_differences_to_kd(command: Command, tmp_path: Path) -> None:
    done = command("train", "-m", "experiment=quickstart", "loss=kd,sp", "seed=0,1", *SHORT, "hydra.sweep.dir=sweep",
                   "hydra.callbacks.comparison.report=false")  # fmt: skip
    assert done.returncode == 0, done.stderr
    kd, sp = json.loads((tmp_path / "sweep" / "comparison.json").read_text())["rows"]
    assert (kd["label"], kd["seeds"], kd["difference"]) == ("kd", [0, 1], None)
    assert sp["difference"]["n"] == 2
    assert sp["difference"]["mean"] == pytest.approx(sp["last"]["mean"] - kd["last"]["mean"])


def test_student_with_a_reused_classifier_is_measured_as_such(command: Command, tmp_path: Path) -> None:
    done = command("train", "experiment=quickstart", "loss=simkd", *SHORT, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    expected = json.loads((tmp_path / "run" / "summary.json").read_text())["student"]["test"]["last"]["accuracy"]
    done = command("evaluate", "checkpoint=run/checkpoints/last.ckpt", "trainer=cpu", "output=out.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("teacher", "student"),
    [("resnet20", "resnet8x4"), pytest.param("wrn_16_2", "ShuffleV1", marks=pytest.mark.slow)],
)
def test_all_methods_together_on_cifar100(
    teacher: str, student: str, command: Command, real_data: Path, tmp_path: Path
) -> None:
    """One objective of every method at once, on batches of classes, for a few steps."""
    of_other_terms = ("ce_mixup", "dkd_standardization", "logit_standardization", "mlkd", "mlkd_standardization",
                      "spirit", "ttm")  # fmt: skip
    methods = [m for m in LOSSES if m not in ("ce", "kd", "stkd", *of_other_terms)]
    (tmp_path / "mine" / "loss").mkdir(parents=True)
    terms = ", ".join(f"/term@loss.losses.{m}: {m}" for m in ("kd", *methods))
    (tmp_path / "mine" / "loss" / "all.yaml").write_text(
        f"# @package _global_\ndefaults: [{terms}, /mixup: none]\n"
        "loss:\n  _target_: stkd_lightning.losses.WeightedSum\n"
        "distilled:\n  _target_: stkd_lightning.models.reuse_classifier\n"
        "  student: ${student}\n  teacher: ${teacher.network}\n"
    )
    done = command(
        "train", "--config-dir", "mine", "loss=all", f"teacher={teacher}", f"student={student}", "dataset=cifar100",
        f"dataset.data_dir={real_data}", "dataset.sampler=superclass_uniform", "dataset.batch_size=16", *SHORT,
        "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1",
        "trainer.log_every_n_steps=1", "optimizer.lr=1e-6", "hydra.run.dir=run", timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0].split(",")
    terms_of = {"dist": ["dist_inter", "dist_intra"]}
    assert {f"train/{t}" for m in methods for t in terms_of.get(m, [m])} <= set(header)


def test_layer_that_is_missing_is_refused_before_a_baseline(command: Command, tmp_path: Path) -> None:
    """A loaded teacher is inspected with its weights; a baseline would train for hours before."""
    torch.save(create_model("resnet8", num_classes=10).state_dict(), tmp_path / "teacher.pth")
    done = command("train", "experiment=quickstart", "loss=sp", "loss.losses.sp.teacher_layers=layer9",
                   "teacher=resnet8", "teacher.checkpoint=teacher.pth", "teacher.min_accuracy=0", "baseline=true",
                   "logger=csv", "cache_dir=cache", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "layer9" in done.stderr
    assert "baseline" not in done.stdout
