"""A checkpoint of the first release, saved today, loads with transformers alone, and can be saved again there."""

import json
import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from bare_environment import make_bare_environment
from tiny_models import tiny_model
from tiny_processors import tiny_processor

from foal_hf import FoalNetForEmotionClassification, FoalNetProcessor


FOLDER = Path(__file__).parent / "first_release"
CODE = {path.name for path in (Path(__file__).parents[2] / "foal_hf" / "foal_net").glob("*_foal_net.py")}
CHECKPOINT = {"config.json", "model.safetensors", "processor_config.json"}

# The inputs are those of test_first_release.py.
LOAD_AND_SAVE = """
import json, math, sys
import torch
from transformers import AutoModelForVideoClassification, AutoProcessor

source, target = sys.argv[1:]
model = AutoModelForVideoClassification.from_pretrained(source, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(source, trust_remote_code=True)
seconds = torch.arange(16_000) / 16_000
waveform = torch.sin(2 * math.pi * 220 * seconds) * torch.linspace(0, 1, 16_000)
frames = torch.linspace(-1, 1, 2 * 3 * 26 * 26).reshape(1, 2, 3, 26, 26)
with torch.no_grad():
    output = model(input_values=waveform[None], pixel_values_videos=frames)
model.save_pretrained(target)
processor.save_pretrained(target)
modules = [type(part).__module__.split(".")[0] for part in (model, processor)]
print(json.dumps({"logits": output.logits[0].tolist(), "modules": modules}))
"""


def run_bare(folder: Path, source: str, target: str) -> dict[str, Any]:
    """What `LOAD_AND_SAVE` prints where only transformers and what it needs is installed."""
    python = make_bare_environment(folder / "bare")
    environment = {**os.environ, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    command = [str(python), "-c", LOAD_AND_SAVE, str(folder / source), str(folder / target)]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_the_code_travels_with_a_checkpoint_of_the_first_release(tmp_path: Path) -> None:
    model = FoalNetForEmotionClassification.from_pretrained(FOLDER)
    model.save_pretrained(tmp_path / "saved")
    FoalNetProcessor.from_pretrained(FOLDER).save_pretrained(tmp_path / "saved")
    expected = json.loads((FOLDER / "expected.json").read_text())["logits"]
    for source, target in (("saved", "again"), ("again", "once more")):
        result = run_bare(tmp_path, source, target)
        assert result["logits"] == pytest.approx(expected, abs=1e-5)
        assert result["modules"] == ["transformers_modules"] * 2
        saved = {path.name for path in (tmp_path / target).iterdir() if path.is_file()}
        assert saved == CODE | CHECKPOINT


@pytest.mark.slow
def test_the_code_of_an_encoder_of_clips_travels_too(tmp_path: Path) -> None:
    model = tiny_model(vision="videomae")
    model.save_pretrained(tmp_path / "saved")
    tiny_processor().save_pretrained(tmp_path / "saved")
    seconds = torch.arange(16_000) / 16_000
    waveform = torch.sin(2 * math.pi * 220 * seconds) * torch.linspace(0, 1, 16_000)
    frames = torch.linspace(-1, 1, 2 * 3 * 26 * 26).reshape(1, 2, 3, 26, 26)
    with torch.no_grad():
        expected = model(input_values=waveform[None], pixel_values_videos=frames).logits[0].tolist()
    assert run_bare(tmp_path, "saved", "again")["logits"] == pytest.approx(expected, abs=1e-5)
