"""The distribution of the default checkpoint: what it carries, its licence, and that it is a good checkpoint."""

import email
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from default_checkpoints import WEIGHTS
from media_builders import make_clip
from requirements import CHECKPOINT, need

from foal_hf import TINY_CHECKPOINT, FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.hub.cards import model_card
from foal_hf.results import Results


FILES = {"README.md", "config.json", "model.safetensors", "processor_config.json", "results.json"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with wheel and sdist of the distribution, with tiny weights, saved with their code."""
    folder = tmp_path_factory.mktemp("built")
    project = shutil.copytree(WEIGHTS, folder / "project", ignore=lambda *_: {"checkpoint", "__pycache__"})
    checkpoint = shutil.copytree(TINY_CHECKPOINT, project / "foal_net_small" / "checkpoint")
    (checkpoint / "modeling_foal_net.py").write_text("code under another licence")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=project, check=True, capture_output=True
    )
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return email.message_from_bytes(wheel.read("foal_net_small-0.1.0.dist-info/METADATA"))


def test_wheel_and_sdist_have_the_checkpoint_and_no_code_but_where_it_lies(built: Path, wheel: zipfile.ZipFile) -> None:
    package = {"foal_net_small/__init__.py", *(f"foal_net_small/checkpoint/{name}" for name in FILES)}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == package
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names - {"", ".gitignore"} == package | {"LICENSE", "README.md", "PKG-INFO", "pyproject.toml"}


def test_the_licence_is_that_of_the_voices_and_names_their_authors(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "CC-BY-NC-SA-4.0"
    text = wheel.read("foal_net_small-0.1.0.dist-info/licenses/LICENSE").decode()
    assert "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode" in text
    for attribution in ("Livingstone", "Russo", "10.1371/journal.pone.0196391", "muxspace/facial_expressions"):
        assert attribution in text


def test_it_needs_no_other_package(built: Path, wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata.get_all("Requires-Dist") is None
    wheel.extractall(built / "site")
    script = "import foal_net_small as it; print(it.checkpoint_dir(), it.__version__, it.__license__)"
    command = [sys.executable, "-S", "-c", script]  # no package but those of Python and this
    finished = subprocess.run(
        command, env={"PYTHONPATH": str(built / "site")}, check=True, capture_output=True, text=True
    )
    folder, version, licence = finished.stdout.split()
    assert {path.name for path in Path(folder).iterdir()} == FILES
    assert (version, licence) == (metadata["Version"], metadata["License-Expression"])


def test_the_checkpoint_is_small_and_complete() -> None:
    need("weights")
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir() if not path.name.endswith("_foal_net.py")}
    assert files.keys() == FILES
    assert sum(files.values()) <= 12_000_000
    model = FoalNetForEmotionClassification.from_pretrained(CHECKPOINT)
    assert model.num_parameters() <= 6_000_000
    assert not model.config.trained_on_generated_data
    assert FoalNetProcessor.from_pretrained(CHECKPOINT)


def test_it_predicts_without_network(tmp_path: Path) -> None:
    need("weights")
    clip = make_clip(tmp_path / "clip.mp4")
    finished = subprocess.run(
        [sys.executable, "-m", "foal_hf", "predict", str(clip), "--json", "--quiet"],
        env={**os.environ, "PYTHONPATH": f"{WEIGHTS}:{os.environ['PYTHONPATH']}", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    (entry,) = json.loads(finished.stdout)
    labels = FoalNetConfig.from_pretrained(CHECKPOINT).label2id
    assert {score["label"] for score in entry["scores"]} == labels.keys()
    assert entry["modalities"] == ["audio", "video"]


def test_its_card_is_the_one_that_its_files_make_and_states_licence_and_sources() -> None:
    need("weights")
    results = Results.load(CHECKPOINT / "results.json")
    card = (CHECKPOINT / "README.md").read_text(encoding="utf-8")
    assert card == model_card(FoalNetConfig.from_pretrained(CHECKPOINT), results)
    assert "\nlicense: cc-by-nc-sa-4.0\n" in card
    for attribution in ("10.1371/journal.pone.0196391", "muxspace/facial_expressions", "5(1)(f)"):
        assert attribution in card
