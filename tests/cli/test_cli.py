"""The command line, in the test process and in processes of its own."""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from foal_hf import TINY_CHECKPOINT, cli
from foal_hf.cli import main
from foal_hf.experiments import quickstart
from foal_hf.synthetic import generate_recording


def foal_hf(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `foal-hf` with these arguments."""
    return subprocess.run([sys.executable, "-m", "foal_hf", *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    generate_recording(path, ["happy"], seconds_each=1.2)
    return path


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(["--help"])
    printed = capsys.readouterr().out
    assert exit_code.value.code == 0
    assert all(command in printed for command in ("quickstart", "predict", "demo", "push", "doctor"))


def test_a_script_of_any_name_gets_a_package_that_has_registered(tmp_path: Path) -> None:
    script = tmp_path / "foal-hf.py"
    script.write_text(
        "import foal_hf\nfrom transformers import AutoConfig\nprint(AutoConfig.for_model('foal_net').model_type)\n"
    )
    assert subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout == "foal_net\n"


def test_help_does_not_wait_for_torch() -> None:
    program = Path(sys.executable).with_name("foal-hf")
    command = [sys.executable, "-X", "importtime", str(program), "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage: foal-hf" in finished.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in finished.stderr.splitlines()}
    assert "argparse" in imported and not imported & {"torch", "transformers", "datasets", "numpy"}


@pytest.mark.parametrize("arguments", [[], ["predict"], ["predict", "clip.mp4", "--modality", "smell"], ["dance"]])
def test_misuse_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert "usage: foal-hf" in capsys.readouterr().err


def test_doctor_reports_whether_training_and_prediction_can_run() -> None:
    finished = foal_hf("doctor", "--json")
    assert finished.returncode == 0
    assert json.loads(finished.stdout)["ok"]


def test_quickstart_prints_only_json_with_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = quickstart.run_quickstart
    monkeypatch.setattr(
        quickstart,
        "run_quickstart",
        lambda output, seed: run(output, seed=seed, num_speakers=3, clips_per_emotion=1, num_epochs=1),
    )
    assert main(["quickstart", "--json", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    splits = json.loads(printed.out)["splits"]
    assert {name: split["num_clips"] for name, split in splits.items()} == {"train": 4, "validation": 4, "test": 4}
    assert "eval_unweighted_accuracy" in printed.err


def test_predict_continues_after_a_bad_file(clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_text("this is no film")
    finished = foal_hf("predict", "--json", str(clip), str(broken), str(clip))
    entries = json.loads(finished.stdout)
    assert finished.returncode == 1
    assert [entry["file"] for entry in entries] == [str(clip), str(broken), str(clip)]
    assert entries[1]["error_type"] == "MediaError" and "broken.mp4" in entries[1]["error"]
    assert entries[0] == entries[2]
    assert entries[0]["modalities"] == ["audio", "video"]
    assert {score["label"] for score in entries[0]["scores"]} == {"happy", "neutral", "sad", "angry"}


def test_predict_prints_one_line_a_file(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(clip), "--modality", "audio", "--top-k", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{clip}: ") and line.endswith("(audio, 0 to 1.22 s)")


def test_predict_says_which_range_was_used(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, end in (([], 1.2), (["--first-seconds", "0.5"], 0.5)):
        assert main(["predict", "--json", str(clip), *options]) == 0
        (entry,) = json.loads(capsys.readouterr().out)
        assert entry["start_seconds"] == 0 and entry["end_seconds"] == pytest.approx(end, abs=0.05)


def test_an_unknown_checkpoint_is_one_line_on_stderr(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--model", "/no/such/checkpoint", str(clip)]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and "/no/such/checkpoint" in printed.err and "Traceback" not in printed.err


def test_the_shipped_checkpoint_is_small_and_has_its_card() -> None:
    files = {path.name: path.stat().st_size for path in TINY_CHECKPOINT.iterdir()}
    assert set(files) == {"README.md", "config.json", "model.safetensors", "processor_config.json", "results.json"}
    assert sum(files.values()) < 3_000_000
    card = (TINY_CHECKPOINT / "README.md").read_text(encoding="utf-8")
    assert "mean nothing on real people" in card and "5(1)(f)" in card


def test_push_with_dry_run_lists_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(TINY_CHECKPOINT), "org/foal-net", "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert any(line.endswith("1.499 MB  model.safetensors") for line in printed)
    assert printed[-1].endswith("files would be uploaded to org/foal-net (main)")
    assert main(["push", str(TINY_CHECKPOINT), "org/foal-net", "--dry-run", "--revision", "fold-3", "--json"]) == 0
    pushed = json.loads(capsys.readouterr().out)
    assert pushed["dry_run"] and pushed["revision"] == "fold-3"
    assert [name for name, _ in pushed["files"] if not name.endswith((".py", ".md"))] == [
        "config.json",
        "model.safetensors",
        "processor_config.json",
        "results.json",
    ]


def test_push_of_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(tmp_path), "org/foal-net"]) == 1
    assert capsys.readouterr().err == (
        f"foal-hf: {tmp_path} is not a checkpoint: config.json is missing. Pass a folder with a saved model.\n"
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recordings") / "recording.mp4"
    generate_recording(path, ["happy", "sad"], speaker=2, seconds_each=3.0)
    return path


WINDOWS = ["--window-seconds", "2", "--stride-seconds", "1"]


def test_predict_follows_a_recording_over_its_time(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(recording), *WINDOWS, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    segments = entry["segments"]
    assert [segment["start_seconds"] for segment in segments] == [0, 1, 2, 3, 4, 5]
    assert (segments[0]["label"], segments[-1]["label"]) == ("happy", "sad")
    assert main(["predict", str(recording), *WINDOWS]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{recording}:      0.00 ") and "  happy 0." in lines[0]
    assert main(["predict", str(recording), *WINDOWS, "--min-score", "1.0"]) == 0
    assert "  - 0." in capsys.readouterr().out


def test_predict_writes_formats_of_other_programs(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {"--csv": "file,start_seconds", "--vtt": "WEBVTT", "--rttm": "SPEAKER recording 1 0.000 "}
    for option, beginning in expected.items():
        assert main(["predict", str(recording), *WINDOWS, option]) == 0
        assert capsys.readouterr().out.startswith(beginning), option
    assert main(["predict", str(recording), *WINDOWS, "--plot", str(tmp_path / "timeline.png")]) == 0
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert main(["predict", str(recording), str(recording), "--vtt"]) == 2
    assert "give one FILE" in capsys.readouterr().err


CROSS_VALIDATE = ["cross-validate", "--corpus", "iemocap", "--output", "runs"]


@pytest.mark.parametrize(
    ("arguments", "python", "shell"),
    [
        (["inspect", "folder"], 'skip them with on_error="skip".', "skip them with --on-error skip."),
        (["inspect", "folder"], "accept it with allow_partial=True.", "accept it with --allow-partial."),
        (["inspect", "folder"], "pass data_dir=..., the folder", "pass --data-dir ..., the folder"),
        (["inspect", "folder"], 'use split_by="random".', "use --set split_by=random."),
        (["inspect", "folder"], "skip with drop_other_labels=True.", "skip with --set drop_other_labels=true."),
        (CROSS_VALIDATE, 'no session. Use by="speaker".', "no session. Use --by speaker."),
        (CROSS_VALIDATE, "use split_by='random'.", "use --corpus-set split_by=random."),
        (["doctor"], "keep x=True.", "keep x=True."),
        (["annotate", "x", "--output", "y"], "`output` has to end in .parquet", "--output has to end in .parquet"),
        (
            ["predict", "x"],
            "`max_pixels` or `fps`; give `model=` another",
            "--max-pixels or `fps`; give --model another",
        ),
        (["inspect", "folder"], "the column `corpus`", "the column `corpus`"),  # no option, but an argument
    ],
)
def test_errors_and_warnings_of_the_library_name_options_and_not_python(
    arguments: list[str],
    python: str,
    shell: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(options: argparse.Namespace) -> int:
        logging.getLogger("foal_hf.cli").warning(python)
        raise ValueError(python)

    options = cli._parser().parse_args(arguments)
    options.run = fail
    monkeypatch.setattr(cli, "_parse", lambda _: options)
    with caplog.at_level("WARNING", "foal_hf"):
        assert main(arguments) == 1
    assert capsys.readouterr().err.endswith(f"foal-hf: {shell}\n")
    assert caplog.messages == [shell]
