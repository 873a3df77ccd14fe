"""Image classifiers of Hugging Face transformers as teachers and students, from the hub or a folder."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from stkd_lightning.models.adapters.huggingface_input import input_of
from stkd_lightning.models.class_order import declare_classes
from stkd_lightning.models.input_adapter import InputSpec, declare
from stkd_lightning.utilities.errors import InputError, reason, unknown

# Of a configuration: where it comes from, and names of classes, which are those of the data in a run.
LEFT_OUT = (
    "_name_or_path",
    "architectures",
    "auto_map",
    "dtype",
    "id2label",
    "label2id",
    "torch_dtype",
    "transformers_version",
)


def huggingface_model(
    name: str,
    num_classes: int | None = None,
    pretrained: bool = False,
    revision: str | None = None,
    input_size: int | None = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> nn.Module:
    """Build a classifier of transformers; weights are read from safetensors only, and no code of the hub is run.

    Args:
        name: ``org/model`` on the hub, or a folder.
        num_classes: number of logits; ``None``: as in its configuration. With pretrained weights a new classifier
            replaces the old one if the number differs.
        pretrained: start from its weights, with the input of its image processor.
        revision: branch, tag or commit on the hub.
        input_size: side in pixels that images are resized to; ``None``: that of the image processor or of a
            transformer with positions, else that of the data.
        config: its configuration, which is then not read by name unless its weights are; see ``architecture``.
        options: of its configuration, such as ``image_size=32``.

    Raises:
        InputError: transformers is not installed, nothing can be read by this name, it is no image classifier, or its
            weights are not those of the network.
    """
    transformers = _library()
    with _reading(name):
        settings = _configuration(name, revision, None if pretrained else config)
        for option, value in options.items():
            if not hasattr(settings, option):
                raise unknown(f"option of {type(settings).__name__}", option, settings.to_dict())
            setattr(settings, option, value)
        labels = [str(settings.id2label[i]) for i in sorted(settings.id2label)]
        own = num_classes in (None, len(labels))
        if num_classes is not None:
            settings.num_labels = num_classes
        if not pretrained:
            # Networks whose positions are learned take images of one size.
            size = getattr(settings, "image_size", None) if hasattr(settings, "num_attention_heads") else None
            network = transformers.AutoModelForImageClassification.from_config(settings, trust_remote_code=False)
            return declare(network, InputSpec(size).overridden(size=input_size))
        network, read = transformers.AutoModelForImageClassification.from_pretrained(
            _place(name),
            config=settings,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            use_safetensors=True,
            trust_remote_code=False,
            **_revised(name, revision),
        )
        spec = input_of(_place(name), **_revised(name, revision))
    fresh = {*read["missing_keys"], *(key for key, *_ in read["mismatched_keys"])}
    if inner := sorted(key for key in fresh if key.startswith(f"{network.base_model_prefix}.")):
        raise InputError(f"huggingface network {name!r}: its weights do not fit {', '.join(inner[:4])}")
    if own and not fresh and any(label != f"LABEL_{i}" for i, label in enumerate(labels)):
        declare_classes(network, labels)
    return declare(network.float(), spec.overridden(size=input_size))


def architecture(name: str, revision: str | None = None) -> tuple[dict[str, Any], str | None]:
    """Return the configuration from which a network is built again without the hub, and the commit that it is of.

    Args:
        name: ``org/model`` on the hub, or a folder, which has no commit.
        revision: branch, tag or commit on the hub.

    Raises:
        InputError: see ``huggingface_model``.
    """
    _library()
    with _reading(name):
        settings = _configuration(name, revision, None)
    plain = {str(k): v for k, v in settings.to_diff_dict().items() if k not in LEFT_OUT}
    return plain | {"num_labels": settings.num_labels}, getattr(settings, "_commit_hash", None)


def _library() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise InputError("transformers is not installed: pip install 'stkd-lightning[transformers]'") from error
    return transformers


def _configuration(name: str, revision: str | None, config: Mapping[str, Any] | None) -> Any:
    auto = _library().AutoConfig
    if config is None:
        return auto.from_pretrained(_place(name), trust_remote_code=False, **_revised(name, revision))
    plain: Any = OmegaConf.to_container(config) if isinstance(config, DictConfig) else dict(config)
    return auto.for_model(plain.pop("model_type"), **plain)


def _place(name: str) -> str:
    return str(Path(name).expanduser()) if is_folder(name) else name


def _revised(name: str, revision: str | None) -> dict[str, str]:
    return {} if revision is None or is_folder(name) else {"revision": revision}


def is_folder(name: str) -> bool:
    """Return whether a name is that of a folder."""
    return Path(name).expanduser().is_dir()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Keep the library's notices from the terminal, and turn its errors into one line.

    Raises:
        InputError: the library fails.
    """
    messages = _library().utils.logging
    loggers = [messages.get_logger(), logging.getLogger("huggingface_hub")]
    levels, bars = [logger.level for logger in loggers], messages.is_progress_bar_enabled()
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    messages.disable_progress_bar()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # the library raises many types
        advice = "" if is_folder(name) else "; without a network, name a folder that save_pretrained wrote"
        raise InputError(f"huggingface network {name!r}: cannot be read ({reason(error)}){advice}") from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if bars:
            messages.enable_progress_bar()
