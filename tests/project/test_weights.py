"""The distribution of the default checkpoint: what it carries, its licence, and that it is a good checkpoint."""

import email
import json
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from email.message import Message
from pathlib import Path

import pytest
from default_checkpoints import WEIGHTS
from media_builders import make_clip
from requirements import CHECKPOINT, need

from foal_hf import TINY_CHECKPOINT, FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.experiments import describe_corpus
from foal_hf.hub.cards import model_card
from foal_hf.results import Corpus, Results, Split


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


@pytest.fixture
def pack() -> Callable[[Path, Path], None]:
    """The script that fills the distribution."""
    return runpy.run_path(str(WEIGHTS.parents[1] / "scripts" / "pack_weights.py"))["pack"]


def test_a_trained_checkpoint_is_packed_with_licence_sources_and_card(pack: Callable, tmp_path: Path) -> None:
    source, target = shutil.copytree(TINY_CHECKPOINT, tmp_path / "source"), tmp_path / "target"
    (source / "modeling_foal_net.py").touch()
    train = {"train": Split(1, clip_ids=["03-01-01-01-01-01-01"])}
    results = Results.load(source / "results.json")
    replace(results, corpus=Corpus("voices with photographs"), splits=train).save(source / "results.json")
    pack(source, target)
    assert {path.name for path in target.iterdir()} == FILES
    packed, card = Results.load(target / "results.json"), (target / "README.md").read_text(encoding="utf-8")
    assert packed.license == "cc-by-nc-sa-4.0" and packed.corpus.acted and packed.corpus.languages == ["en"]
    assert packed.corpus.sources[0].name == describe_corpus("ravdess").name  # so that its clips are known there
    assert_credits_its_sources(card)
    assert "Not measured: faces that move" in card


def test_what_must_not_be_packed_is_refused(pack: Callable, tmp_path: Path) -> None:
    source = shutil.copytree(TINY_CHECKPOINT, tmp_path / "source")
    results = Results.load(source / "results.json")
    replace(results, splits={"train": Split(31)}).save(source / "results.json")
    with pytest.raises(ValueError, match="has to list the training clips"):
        pack(source, tmp_path / "target")
    shutil.copyfile(TINY_CHECKPOINT / "results.json", source / "results.json")
    with (source / "model.safetensors").open("ab") as file:
        file.truncate(12_000_001)
    with pytest.raises(ValueError, match="more than the 12,000,000"):
        pack(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def assert_credits_its_sources(card: str) -> None:
    assert "\nlicense: cc-by-nc-sa-4.0\n" in card
    for attribution in ("10.1371/journal.pone.0196391", "muxspace/facial_expressions", "5(1)(f)", "non-commercial"):
        assert attribution in card


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
    assert_credits_its_sources(card)
