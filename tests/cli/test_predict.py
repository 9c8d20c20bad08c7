"""`foal-hf predict`: options, checkpoints that cannot be loaded, odd names and encodings."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from media_builders import make_clip

from foal_hf import TINY_CHECKPOINT
from foal_hf.cli import main


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.wav"
    return make_clip(path, video=None, audio="sine=frequency=300:sample_rate=16000:duration=1.2")


# Options


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == "foal-hf 0.1.0\n"


def test_files_may_follow_options(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(clip), "--csv", str(clip), "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1] == lines[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--csv", "table.csv"], "table.csv does not exist. To write --csv to a file: foal-hf predict FILE --csv > "),
        (["--csv", "--vtt"], "--csv and --vtt cannot be printed at the same time"),
        (["--json", "--srt"], "--json and --srt cannot be printed at the same time"),
        ([__file__, "--srt"], "--vtt, --srt and --plot take one recording"),
    ],
)
def test_options_that_do_not_go_together_exit_with_two(
    clip: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(clip), *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith(f"foal-hf: {message}")


def test_the_limit_of_a_frame_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = make_clip(tmp_path / "clip.mp4")
    assert main(["predict", str(clip), "--quiet", "--max-pixels", "100"]) == 1
    assert "frames of 62x46 pixels, above max_pixels = 100" in capsys.readouterr().err
    assert main(["predict", str(clip), "--quiet", "--max-pixels", "100000"]) == 0


def test_quiet_prints_only_results_and_errors(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(clip), "/none/clip.mp4", "--quiet"]) == 1
    printed = capfd.readouterr()
    assert printed.out.startswith(f"{clip}: ") and printed.err == "error: /none/clip.mp4: no such file.\n"


def test_a_log_gets_no_progress_bars(clip: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(clip), "--window-seconds", "1"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("device", ["cuda:7", "gpu", "meta:x"])
def test_a_device_that_is_not_there_is_one_sentence(
    clip: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(clip), "--device", device]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"foal-hf: The device '{device}' is not available (") and "foal-hf doctor" in line


# Checkpoints


def truncate(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:5003])


def replace_by_pickle(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)


def set_field(name: str, **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**config, **fields}))

    return change


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda folder: replace_by_pickle(folder, b"\x80\x04 no pickle"),
        lambda folder: replace_by_pickle(folder, pickle.dumps(Hostile())),
        lambda folder: (folder / "config.json").write_text("{"),
        lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{}"),
        set_field("config.json", model_type="bert"),
        set_field("config.json", model_type="no_such_model"),
        set_field("config.json", model_type=["foal_net"]),
        set_field("config.json", dtype="float99"),
        set_field("processor_config.json", processor_class="NoSuchProcessor"),
        set_field("processor_config.json", processor_class=7),
        set_field(
            "config.json",
            model_type="other",
            auto_map={"AutoConfig": "code.Config", "AutoModelForVideoClassification": "code.Model"},
        ),
        set_field(
            "config.json", custom_pipelines={"audio-video-emotion": {"impl": "code.Pipeline"}}, model_type="other"
        ),
        shutil.rmtree,
    ],
    ids=lambda damage: getattr(damage, "__qualname__", None),
)
def test_a_checkpoint_that_cannot_be_loaded_is_one_sentence_and_runs_nothing(
    damage: Callable[[Path], Any],
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "broken-checkpoint"
    shutil.copytree(TINY_CHECKPOINT, folder)
    (folder / "code.py").write_text("import os\nos.mkdir('executed')\n")
    damage(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked a question"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["predict", str(clip), "--model", str(folder), "--quiet"]) == 1
    printed = capfd.readouterr()
    assert printed.out == "" and not (tmp_path / "executed").exists()
    last = printed.err.splitlines()[-1]
    assert last.startswith("foal-hf: ") and "broken-checkpoint" in last
    assert "Traceback" not in printed.err and len(printed.err.splitlines()) == 1


def test_a_checkpoint_that_is_not_there_is_named(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["predict", str(clip), "--model", "nobody/nothing"]) == 1
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith("foal-hf: The checkpoint nobody/nothing cannot be loaded: ")
    )


# Names and encodings


def test_no_name_is_lost_in_the_encoding_of_the_output_and_none_controls_the_terminal(
    clip: Path, tmp_path: Path
) -> None:
    names = ["愤怒.wav", "caf\udce9.wav", "\x1b[31mred.wav", "=1+2.wav"]
    for name in names:
        shutil.copy(clip, tmp_path / name)
    outputs = {}
    for option in ("--quiet", "--csv", "--json"):
        finished = subprocess.run(
            [sys.executable, "-m", "foal_hf", "predict", *names, option],
            cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            capture_output=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        outputs[option] = finished.stdout.decode("cp1252")
        assert "\x1b" not in outputs[option]
    lines = outputs["--quiet"].splitlines()
    shown = [r"\u6124\u6012.wav", r"caf\xe9.wav", r"\x1b[31mred.wav", "=1+2.wav"]
    assert [line.split(": ")[0] for line in lines] == shown
    cells = [line.split(",")[0] for line in outputs["--csv"].splitlines()[1:]]
    assert cells == [*shown[:3], "'=1+2.wav"]
    assert [entry["file"] for entry in json.loads(outputs["--json"])] == ["愤怒.wav", *shown[1:]]


def test_output_that_cannot_be_written_is_an_error_and_a_reader_that_ends_is_none(clip: Path) -> None:
    command = [sys.executable, "-m", "foal_hf", "predict", str(clip), "--quiet"]
    with open("/dev/full", "wb") as full:
        finished = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert finished.returncode == 1
    assert finished.stderr == "foal-hf: [Errno 28] No space left on device: 'standard output'\n"
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (141, "")
