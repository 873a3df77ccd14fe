import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from stkd_lightning.models.pickle_depth import DEPTH, check_depth
from stkd_lightning.models.weights import read_checkpoint
from stkd_lightning.utilities.errors import InputError

NESTED_KEY = b"\x80\x02}(" + b")" + b"\x85" * 1_000_000 + b"K\x01u."  # {(((...),),): 1}


def nested(levels: int) -> Any:
    value: Any = ()
    for _ in range(levels):
        value = (value,)
    return value


@pytest.mark.parametrize("protocol", range(6))
def test_depth_is_that_of_the_values(protocol: int) -> None:
    def check(value: Any) -> None:
        check_depth(io.BytesIO(pickle.dumps(value, protocol)), "it")

    many = {
        "a": list(range(10_000)),
        "b": [{i: (i, [i])} for i in range(3000)],
        "c": {1, 2},
        "d": torch.zeros(3).numpy(),
    }
    check(many)
    check(nested(DEPTH - 1))
    for value in (nested(DEPTH + 1), {"a": [nested(DEPTH)]}):
        with pytest.raises(InputError, match="^it: holds values nested deeper than 500 levels"):
            check(value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_deep_key_is_refused_before_it_is_hashed(zipped: bool, tmp_path: Path) -> None:
    """Which would end the process."""
    path = tmp_path / "a.ckpt"
    torch.save({"a": 1}, path, _use_new_zipfile_serialization=zipped)
    raw = path.read_bytes()
    if zipped:
        with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(path, "w") as new:
            for name in old.namelist():
                new.writestr(name, NESTED_KEY if name.endswith("data.pkl") else old.read(name))
    else:
        whole = pickle.dumps({"a": 1}, 2)
        assert raw.count(whole) == 1
        path.write_bytes(raw.replace(whole, NESTED_KEY))
    with pytest.raises(InputError, match=f"^checkpoint {path}: holds values nested deeper than 500 levels"):
        read_checkpoint(path)
