"""What the README says is run as it stands there."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_iemocap import full_tree
from feature_folders import make_feature_folder
from loopback_hub import LoopbackHub
from requirements import CHECKPOINT, need
from tiny_models import AUDIO_ENCODERS, VISION_ENCODERS
from transformers import AutoModel, CLIPImageProcessorPil, CLIPVisionModelWithProjection, Wav2Vec2FeatureExtractor

from foal_hf import TINY_CHECKPOINT, export_checkpoint
from foal_hf.results import Corpus, Results, Split
from foal_hf.synthetic import generate_corpus, generate_recording, read_metadata


ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
# What is not run here in full, and what runs it.
DRY_RUN = {"make quickstart", "make test", "make help", "make check"}
ELSEWHERE = {
    "pip install . ./weights/foal-net-small": "test_packaging.py and test_weights.py build the wheels and import them"
}


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackHub]:
    """A Hub that holds small encoders under the names that the README uses."""
    audio, vision = tmp_path_factory.mktemp("audio"), tmp_path_factory.mktemp("vision")
    AutoModel.from_config(AUDIO_ENCODERS["wavlm"]).save_pretrained(audio)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(audio)
    CLIPVisionModelWithProjection(VISION_ENCODERS["clip"][0]).save_pretrained(vision)
    size = {"height": 26, "width": 26}
    CLIPImageProcessorPil(size={"shortest_edge": 26}, crop_size=size).save_pretrained(vision)
    with LoopbackHub() as hub:
        hub.put("microsoft/wavlm-large", audio)
        hub.put("openai/clip-vit-large-patch14", vision)
        yield hub


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the README names."""
    files = tmp_path_factory.mktemp("files")
    generate_recording(files / "clip.mp4", ["happy"], seconds_each=1.2)
    generate_recording(files / "interview.mp4", ["happy", "sad"], seconds_each=2.0)
    generate_corpus(files / "my_clips", num_speakers=3, clips_per_emotion=1, progress=False)
    make_feature_folder(files / "my_features")
    (train,) = [line for line in COMMANDS if line.startswith("foal-hf train") and "my_features" in line]
    finished = run_in(files, train)  # the README predicts with what it has trained
    assert finished.returncode == 0, finished.stderr
    shutil.copytree(TINY_CHECKPOINT, files / "my-foal-net")
    record_training_clips(files / "my-foal-net" / "results.json", files / "my_clips")
    export_checkpoint(files / "my-foal-net", files / "my-foal-net-openvino")
    return files


def run_in(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the README in a folder."""
    arguments = [sys.executable, "-m", "foal_hf", *shlex.split(command)[1:]]
    return subprocess.run(arguments, cwd=folder, env=os.environ.copy(), capture_output=True, text=True, check=False)


def record_training_clips(path: Path, corpus: Path) -> None:
    """As if the checkpoint had been trained on the clips of the folder that are not for testing."""
    ids = [row["file_name"] for name in ("train", "validation") for row in read_metadata(corpus, name)]
    splits = {"train": Split(len(ids), clip_ids=ids)}
    replace(Results.load(path), corpus=Corpus("folder corpus"), splits=splits).save(path)


@pytest.fixture
def folder(files: Path, tmp_path: Path) -> Path:
    """A folder of their own with these files."""
    return shutil.copytree(files, tmp_path / "folder")


def test_python_blocks_run_in_order_from_prediction_to_the_hub_and_back(hub: LoopbackHub, folder: Path) -> None:
    full_tree(folder)
    for made in folder.glob("my-foal-net*"):  # the README trains and exports one
        shutil.rmtree(made)
    script = "\n".join(blocks("python"))
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**hub.environment(folder / "cache"), "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "'label': 'happy'" in finished.stdout and "missing.mp4" in finished.stdout
    _, files = hub.repositories["model", "org/foal-net"].at("main")
    assert {"config.json", "model.safetensors", "processor_config.json"} <= set(files)
    assert str(folder).encode() not in files["config.json"]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, folder: Path) -> None:
    if command in ELSEWHERE:
        return
    if command == "foal-hf demo":
        serve_until_interrupted(command, folder)
        return
    if command in DRY_RUN:
        arguments = ["make", "--dry-run", *shlex.split(command)[1:]]
        finished = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=False)
    else:
        assert command.startswith("foal-hf "), f"say how a test runs {command!r}"
        finished = run_in(folder, command)
    assert finished.returncode == 0, finished.stderr


def serve_until_interrupted(command: str, folder: Path) -> None:
    """Run a command that serves a page, open the page, and press Ctrl-C."""
    arguments = [sys.executable, "-m", "foal_hf", *shlex.split(command)[1:]]
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (folder / "errors.txt").open("w+") as errors:
        process = subprocess.Popen(
            arguments, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        with process:
            printed = process.stdout.readline()
            try:
                assert printed.startswith("The page is at http://127.0.0.1:"), (folder / "errors.txt").read_text()
                with urllib.request.urlopen(printed.split()[4]) as page:
                    assert b"Foal-Net" in page.read()
            finally:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 0, (folder / "errors.txt").read_text()
    assert not list(folder.glob("foal-hf-demo-*"))


def test_numbers_of_the_quickstart_are_those_of_the_shipped_checkpoint() -> None:
    printed = re.search(r"<!-- printed by foal-hf quickstart -->\n```text\n(.*?)```", README, re.DOTALL)[1]
    results = Results.load(TINY_CHECKPOINT / "results.json")
    assert list(results.conditions) == ["audio alone", "video alone", "both"]
    for name, test in results.conditions.items():
        assert f"| {name} | {test.unweighted_accuracy.value:.1%} | {test.weighted_accuracy.value:.1%} |\n" in printed


def test_links_to_files_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert {"docs/images/timeline.png", "docs/images/demo.png"} <= set(targets)
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_labels_of_the_default_checkpoint_are_those_of_the_readme() -> None:
    need("weights")
    labels = json.loads((CHECKPOINT / "config.json").read_text())["id2label"]
    assert ", ".join(f"{index} {name}" for index, name in labels.items()) in " ".join(README.split())
