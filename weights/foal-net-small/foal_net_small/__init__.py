"""The weights of foal-net-small, as a folder that `from_pretrained` and `foal_hf` load."""

from pathlib import Path


__version__ = "0.1.0"
__license__ = "CC-BY-NC-SA-4.0"

_FOLDER = Path(__file__).parent / "checkpoint"


def checkpoint_dir() -> Path:
    """The folder of the checkpoint: weights, config, processor, card and results.

    Raises:
        FileNotFoundError: If the installation is incomplete.
    """
    for name in ("config.json", "model.safetensors", "processor_config.json"):
        if not (_FOLDER / name).is_file():
            raise FileNotFoundError(
                f"The installation of foal-net-small is incomplete: {_FOLDER / name} is missing. Run "
                "`pip install --force-reinstall foal-net-small`, or install it again from a complete checkout."
            )
    return _FOLDER


__all__ = ["checkpoint_dir"]
