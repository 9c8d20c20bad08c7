"""The checkpoint that is used where none is named: from its distribution, from the Hub, or not at all."""

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from default_checkpoints import install, uninstall
from feature_folders import make_feature_folder
from loopback_hub import LoopbackHub
from media_builders import make_clip
from requirements import need
from transformers import pipeline

from foal_hf import TINY_CHECKPOINT, FoalNetConfig
from foal_hf.cli import main
from foal_hf.default_checkpoint import DISTRIBUTION, REPO_ID, resolve_checkpoint
from foal_hf.registration import TASK, load_pipeline
from foal_hf.results import Corpus, Results


@pytest.mark.parametrize("name", ["org/foal-net", Path("outputs/checkpoint"), f"./{DISTRIBUTION}"])
def test_other_names_are_left_as_they_are(name: str | Path, caplog: pytest.LogCaptureFixture) -> None:
    assert resolve_checkpoint(name) == str(name)
    assert not caplog.records


@pytest.mark.parametrize("name", [None, DISTRIBUTION])
def test_the_installed_distribution_is_taken_without_any_request(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(monkeypatch, tmp_path / "site")
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path)
        assert resolve_checkpoint(name) == str(folder)
        assert hub.requests == []


@pytest.mark.parametrize("name", [None, DISTRIBUTION])
def test_without_the_distribution_the_repository_on_the_hub_is_taken(
    name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(monkeypatch)
    with LoopbackHub() as hub:
        hub.put(REPO_ID, TINY_CHECKPOINT)
        hub.serve_this_process(monkeypatch, tmp_path)
        assert resolve_checkpoint(name) == REPO_ID
        FoalNetConfig.from_pretrained(REPO_ID)
        hub.forget_requests()
        assert resolve_checkpoint(name) == REPO_ID and hub.requests == []  # from its cache


@pytest.mark.parametrize("offline", [True, False])
def test_without_both_one_error_says_what_to_install(
    offline: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path)
        hub.fail_next(503, times=2)
        with pytest.raises(FileNotFoundError, match=r"pip install foal-net-small.*name another checkpoint") as raised:
            resolve_checkpoint()
        assert len(hub.requests) == (0 if offline else 1)  # no one waits for further attempts
    assert REPO_ID in str(raised.value) and "\n" not in str(raised.value)


def test_an_incomplete_installation_is_an_error_and_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(monkeypatch, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"incomplete: .*model\.safetensors is missing"):
        resolve_checkpoint()


def test_a_checkpoint_of_that_name_in_the_current_folder_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(monkeypatch, tmp_path / "site")
    monkeypatch.chdir(tmp_path)
    Path(DISTRIBUTION).mkdir()
    assert resolve_checkpoint(DISTRIBUTION) == str(folder)  # no checkpoint yet
    Path(DISTRIBUTION, "config.json").touch()
    assert resolve_checkpoint(DISTRIBUTION) == DISTRIBUTION
    assert resolve_checkpoint() == str(folder)


def test_the_licence_is_said_once_and_only_if_no_checkpoint_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(monkeypatch, tmp_path)
    with caplog.at_level(logging.WARNING, logger="foal_hf"):
        resolve_checkpoint(DISTRIBUTION)
        assert not caplog.records
        resolve_checkpoint()
        resolve_checkpoint()
    (record,) = caplog.records
    assert "CC BY-NC-SA 4.0" in record.getMessage() and "model=" in record.getMessage()


def test_the_pipeline_looks_for_it_when_it_is_made_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = install(monkeypatch, tmp_path)
    script = """
import sys, foal_hf
from transformers import pipeline
assert "foal_net_small" not in sys.modules
classify = pipeline("audio-video-emotion")
print(classify.model.name_or_path, classify.model.config.num_labels)
classify.save_pretrained("saved")
pipeline("audio-video-emotion", device="cpu")
"""
    with LoopbackHub() as hub:
        environment = {**hub.environment(tmp_path), "PYTHONPATH": os.environ["PYTHONPATH"]}
        finished = subprocess.run(
            [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert hub.requests == []
    assert (finished.returncode, finished.stdout) == (0, f"{folder} 4\n"), finished.stderr
    assert finished.stderr.count("CC BY-NC-SA 4.0") == 1
    assert str(folder) not in (tmp_path / "saved" / "config.json").read_text()


def test_the_pipeline_loads_it_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uninstall(monkeypatch)
    with LoopbackHub() as hub:
        hub.put(REPO_ID, TINY_CHECKPOINT)
        hub.serve_this_process(monkeypatch, tmp_path)
        for classify in (pipeline(TASK), load_pipeline()):
            assert classify.model.name_or_path == REPO_ID


def test_the_pipeline_of_transformers_passes_on_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uninstall(monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match="pip install foal-net-small"):
        pipeline(TASK)


COMMANDS = {
    "predict": ["predict", "clip.wav", "--model", DISTRIBUTION],
    "annotate": ["annotate", "features", "--all-files", "--model", DISTRIBUTION],
    "evaluate": ["evaluate", DISTRIBUTION, "--corpus", "folder", "--data-dir", "features"],
    "embed": ["embed", "folder", "--data-dir", "features", "--model", DISTRIBUTION, "--output", "stored"],
    "export": ["export", DISTRIBUTION, "--output", "graphs"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_knows_it_by_its_short_name(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "export":
        need("openvino")
    uninstall(monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    make_feature_folder(tmp_path / "features", num_speakers=3, clips_of_each=2)
    assert main(COMMANDS[command]) == 1
    assert "Install it with `pip install foal-net-small`" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_workers_do_not_say_its_licence_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, tmp_path / "site")
    (tmp_path / "archive").mkdir()
    for number in range(2):
        sound = f"sine=frequency={300 + number}:sample_rate=16000:duration=1.2"
        make_clip(tmp_path / "archive" / f"{number}.wav", video=None, audio=sound)
    words = ["annotate", str(tmp_path / "archive"), "--output", str(tmp_path / "results.parquet")]
    assert main([*words, "--num-workers", "2"]) == 0
    assert caplog.text.count("CC BY-NC-SA 4.0") == 1
    assert "CC BY-NC-SA 4.0" not in capfd.readouterr().err  # where a worker's warnings go


def test_it_is_pushed_by_its_short_name_under_its_own_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = install(monkeypatch, tmp_path)
    results = Results.load(folder / "results.json")
    voices = Corpus("Voices", license="CC BY-NC-SA 4.0", citation="Livingstone and Russo 2018")
    corpus = replace(results.corpus, sources=[voices])
    replace(results, license="cc-by-nc-sa-4.0", corpus=corpus).save(folder / "results.json")
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path)
        assert main(["push", DISTRIBUTION, "org/name", "--dry-run"]) == 0
        assert "model.safetensors" in capsys.readouterr().out and hub.requests == []
        assert main(["push", DISTRIBUTION, "org/name"]) == 0
        files = hub.files("model", "org/name")
    assert {"config.json", "model.safetensors", "processor_config.json", "results.json"} <= files.keys()
    card = files["README.md"].decode()
    assert "\nlicense: cc-by-nc-sa-4.0\n" in card and "Cite: Livingstone and Russo 2018." in card
    assert 'model="org/name"' in card
