"""The recipe `open` from its download to its report, on a generated copy of CREMA-D that is served on this machine."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fake_crema_d as fake
import numpy as np
import pytest
import torch
from experiment_examples import save_encoders

from foal_hf.cli import main
from foal_hf.corpora.scripts import import_script
from foal_hf.experiments.recipe import load_recipe
from foal_hf.faces.detection import Detections
from foal_hf.foal_net.processing_foal_net import FoalNetProcessor
from foal_hf.results import Results
from foal_hf.training import FoalNetTrainer


script: Any = import_script("crema_d")
ACTORS = ("1001", "1036", "1037", "1072", "1073")  # one of each published fold
NAMES = [f"{actor}_DFA_{emotion}_XX" for actor in ACTORS for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")]


class OneFace:
    """Finds the same face in every frame."""

    def __call__(self, frames: torch.Tensor) -> list[Detections]:
        eyes_nose_mouth = np.array([[[16, 14], [24, 14], [20, 18], [16, 23], [24, 23]]], dtype=float)
        return [Detections(np.array([[10.0, 8.0, 30.0, 28.0]]), np.array([0.9]), eyes_nose_mouth) for _ in frames]


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, until the file that fails is asked for."""

    asked: list[str] = []
    fails: str | None = None

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.fails is not None and self.fails in self.path:
            self.send_error(404)
            return
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Handler]]:
    """The copy, in place of the corpus' repository."""
    folder = tmp_path / "served"
    fake.make_crema_d(folder, {})
    for number, emotion in enumerate(("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")):
        first = f"1001_DFA_{emotion}_XX"
        fake.make_recording(folder, first, 300 + 150 * number, f"0x{40 * number:02X}20C0")
        for name in NAMES:
            if emotion in name and name != first:
                os.link(fake.wav_path(folder, first), fake.wav_path(folder, name))
                os.link(fake.flv_path(folder, first), fake.flv_path(folder, name))
    monkeypatch.setattr(Handler, "asked", [])
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    for name in ("MEDIA_URL", "TABLE_URL"):
        monkeypatch.setattr(script, name, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(script, "TREE_URL", f"{script.MEDIA_URL}/no-list-of-files")
    monkeypatch.setattr(script, "published_clips", lambda: sorted(NAMES))
    monkeypatch.setattr("foal_hf.faces.corpus.CenterFace", OneFace)
    monkeypatch.setattr("foal_hf.faces.corpus.missing_packages", list)
    yield Handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_one_command_downloads_crops_trains_tests_and_reports(
    served: type[Handler], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = {
        **{"num_train_epochs": 1, "frames_per_second": 5.0, "max_seconds": 0.5, "projection_dim": 16},
        **{"modality_dropout": 0.0},
        **{"dataloader_num_workers": 0, "use_cpu": True, "disable_tqdm": True, "report_to": "none"},
    }
    words = ["cross-validate", "--recipe", "open", "--corpus", "crema_d", "--download"]
    words += ["--output", str(tmp_path / "run"), "--cache-dir", str(tmp_path / "cache"), "--quiet"]
    words += ["--encoders", *save_encoders(tmp_path / "encoders")]
    words += [word for name, value in quick.items() for word in ("--set", f"{name}={json.dumps(value)}")]

    # The download stops, and continues with what it lacks.
    monkeypatch.setattr(served, "fails", "VideoFlash/1073_DFA_SAD_XX.flv")
    assert main(words) == 1
    assert "Files that arrived are kept, so another try continues." in capsys.readouterr().err
    first = set(served.asked)
    served.asked.clear()
    monkeypatch.setattr(served, "fails", None)

    # The training stops in the second fold, and continues there.
    steps_left, training_step = 2, FoalNetTrainer.training_step  # 18 clips train in one step

    def step(self: FoalNetTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        nonlocal steps_left
        steps_left -= 1
        if steps_left == 0:
            raise KeyboardInterrupt
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(FoalNetTrainer, "training_step", step)
    assert main(words) == 130
    assert "30 of 30 clips with video have a face" in capsys.readouterr().err
    again = set(served.asked) - {path for path in first if "1073_DFA_SAD" not in path}
    assert len(served.asked) < len(first) / 2 and "/VideoFlash/1073_DFA_SAD_XX.flv" in again
    runs = tmp_path / "run" / "seed-1234"
    finished = (runs / "fold_1" / "checkpoint" / "model.safetensors").stat().st_mtime_ns
    assert not (runs / "fold_2" / "results.json").exists() and not (runs / "fold_3").exists()
    served.asked.clear()
    monkeypatch.setattr(FoalNetTrainer, "training_step", training_step)
    assert main(words) == 0
    assert (runs / "fold_1" / "checkpoint" / "model.safetensors").stat().st_mtime_ns == finished
    assert not [path for path in served.asked if "DFA" in path]

    printed = capsys.readouterr().out
    assert "| UA |" in printed and "84.9%" in printed and "HiCMAE" in printed and "cannot be compared" in printed
    results = Results.load(tmp_path / "run" / "results.json")
    assert [fold.held_out for fold in results.folds] == [f"fold_{number}" for number in range(1, 6)]
    assert results.corpus.name == "CREMA-D" and results.conditions["both"].num_clips == 30
    processor = FoalNetProcessor.from_pretrained(runs / "fold_5" / "checkpoint")
    assert processor.video_processor.crop == "face"
    features = list((tmp_path / "run" / "features").rglob("*.safetensors")) + list(
        (tmp_path / "run" / "features").iterdir()
    )
    assert features and (tmp_path / "run" / "report.md").is_file()
    card = (runs / "fold_1" / "checkpoint" / "README.md").read_text()
    assert "CREMA-D" in card and "odbl" in card.lower()


def test_the_recipe_loads_the_published_folds_without_the_known_defects() -> None:
    recipe = load_recipe("open")
    assert recipe.corpus["options"] == {"folds": "published", "skip_known_defects": True}
    assert recipe.corpus["clips"] == len(script.published_clips()) - len(script.KNOWN_DEFECTS) == 7438
    assert recipe.processor["crop"] == "face" and recipe.config["freeze_vision_encoder"]


def test_options_of_the_command_win_over_those_of_the_recipe(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def load(name: str, data_dir: Any, **options: Any) -> None:
        seen.append((name, {key: value for key, value in options.items() if key != "split"}))
        raise KeyboardInterrupt

    monkeypatch.setattr("foal_hf.corpora.load_corpus", load)
    words = ["cross-validate", "--recipe", "open", "--output", "unused", "--corpus"]
    main([*words, "crema_d", "--download", "--corpus-set", "folds=balanced"])
    main([*words, "folder", "--data-dir", "clips"])
    main([*[word.replace("open", "base") for word in words], "crema_d", "--download"])
    assert seen == [
        ("crema_d", {"folds": "balanced", "skip_known_defects": True, "download": True}),
        ("folder", {}),
        ("crema_d", {"download": True}),
    ]


def test_an_estimate_of_the_recipe_needs_no_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def note(recipe: Any, corpus: Any, machine: Any) -> None:
        seen.append((len(corpus.seconds), len(corpus.folds), corpus.num_labels, " ".join(corpus.assumptions)))
        raise KeyboardInterrupt

    monkeypatch.setattr("foal_hf.experiments.estimate.estimate", note)
    main(["estimate", "--recipe", "open", "--gpu", "L4"])
    main(["estimate", "--recipe", "open", "--clips", "50", "--folds", "3", "--gpu", "L4"])
    (clips, folds, labels, known), (*others, given) = seen
    assert (clips, folds, labels, others) == (7438, 5, 6, [50, 3, 4])
    assert "The corpus is crema_d." in known and "14,885 files, 7.6 GB" in known and "a mean of 2.5 s" in known
    assert "crema_d" not in given and "a mean of 4.55 s" in given
