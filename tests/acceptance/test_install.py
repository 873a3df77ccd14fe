"""The package works from a wheel and from an editable install, in each case from another folder."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def installed(folder: Path, *arguments: str) -> Path:
    """Make an environment that sees this one's packages, install the project into it, and return its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    purelib = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Only the path of the packages: their own .pth files, such as an editable install of this project, stay out.
    Path(purelib, "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
         "--no-build-isolation", "--ignore-installed", "--disable-pip-version-check", *arguments],
        check=True, timeout=300,
    )  # fmt: skip
    return python


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run([python, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("editable", [False, True], ids=["wheel", "editable"])
def test_install(editable: bool, tmp_path: Path) -> None:
    python = installed(tmp_path / "environment", *(["-e"] if editable else []), str(ROOT))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    found = run(python, "-c", "from stkd_lightning.utilities.paths import conf_dir; print(conf_dir())", cwd=elsewhere)
    conf = Path(found.stdout.strip())
    assert (conf / "train.yaml").is_file(), found.stderr
    assert conf.is_relative_to(ROOT if editable else tmp_path / "environment")
    shown = run(python, "-m", "stkd_lightning.train", "--cfg", "job", "experiment=quickstart", cwd=elsewhere)
    assert shown.returncode == 0, shown.stderr
    assert "DigitsDataModule" in shown.stdout
    script = subprocess.run(
        [python.parent / "stkd-train", "student=resnet8x5"], cwd=elsewhere, capture_output=True, text=True, timeout=120
    )
    assert script.returncode == 2
    assert "did you mean resnet8x4" in script.stderr
    trained = run(
        python, "-m", "stkd_lightning.train", "experiment=quickstart", "loss=ce", "baseline=false", "logger=csv",
        "trainer.max_epochs=1", "hydra.run.dir=run", cwd=elsewhere,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    assert (elsewhere / "run" / "summary.json").is_file()
