"""The script that makes foal-net-small, on generated voices and faces: who is kept out, what it leaves, resuming."""

import io
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from PIL import Image


BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # scripts: they import each other by name

import small_foal_net  # noqa: E402
import small_signals  # noqa: E402
import small_training  # noqa: E402

from foal_hf import FoalNetForEmotionClassification, FoalNetProcessor  # noqa: E402
from foal_hf.results import Results  # noqa: E402
from foal_hf.synthetic import synthesize_clip  # noqa: E402
from foal_hf.synthetic.mp4 import encode_mp4  # noqa: E402


LABELS = small_training.LABELS
NUM_SPEAKERS = 6


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `signals` and `clips` of the true layout; speaker 3 and person 3 are together in the clips of group 3."""
    folder = tmp_path_factory.mktemp("material")
    signals, clips = folder / "signals", folder / "clips"
    signals.mkdir()
    clips.mkdir()
    voices, faces, metadata = [], [], []
    for speaker in range(NUM_SPEAKERS):
        for label in LABELS:
            waveform, frames = synthesize_clip(label, speaker=speaker, image_size=48)
            soundfile.write(wav := io.BytesIO(), waveform, 16_000, format="WAV")
            Image.fromarray(frames[0]).resize((112, 112)).save(jpeg := io.BytesIO(), format="JPEG")
            name, random = f"{speaker}-{label}", np.random.default_rng(speaker)
            embedding = random.standard_normal((5, 96)).tolist()
            voice = {"clip_id": name, "audio": {"bytes": wav.getvalue(), "path": None}, "speech_embedding": embedding}
            voices.append({**voice, "emotion": label, "speaker": str(speaker)})
            face = {"face_id": name, "image": {"bytes": jpeg.getvalue(), "path": None}, "emotion": label}
            faces.append({**face, "person": f"p{speaker}", "face_features": random.standard_normal(128).tolist()})
            (clips / f"{name}.mp4").write_bytes(encode_mp4(waveform, frames))
            gender = "female" if speaker % 2 else "male"
            row = {"file_name": f"{name}.mp4", "emotion": label, "speaker": str(speaker), "gender": gender}
            metadata.append({**row, "person": f"p{speaker}"})
    pq.write_table(pa.Table.from_pylist(voices), signals / "voices.parquet")
    pq.write_table(pa.Table.from_pylist(faces), signals / "faces.parquet")
    pd.DataFrame(metadata).to_csv(clips / "metadata.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_signals, "NUM_VARIATIONS", 2)
        read_voices(folder)
    return folder


def read_voices(material: Path) -> small_signals.Voices:
    return small_signals.read_voices(material / "signals" / "voices.parquet", material / "voices.pt", 1)


@pytest.fixture
def runs(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which the voices are already varied."""
    monkeypatch.setattr(small_foal_net, "MIN_CLIPS", 4)
    threads = torch.get_num_threads()
    (tmp_path / "runs").mkdir()
    shutil.copy(material / "voices.pt", tmp_path / "runs")
    yield tmp_path / "runs"
    torch.set_num_threads(threads)


def run(material: Path, runs: Path, *arguments: str) -> dict:
    folders = ["--signals", str(material / "signals"), "--clips", str(material / "clips")]
    common = ["--short", "--rounds", "1", "--threads", "1", "--workers", "1", "--output", str(runs)]
    small_foal_net.main([*common, *folders, "--runs", str(runs), *arguments])
    return json.loads((runs / "small_foal_net.json").read_text(encoding="utf-8"))


def test_each_group_is_tested_by_models_that_never_saw_its_people(material, runs, monkeypatch) -> None:
    """The one mistake that would make every number worthless, so what each training really gets is looked at."""
    metadata = pd.read_csv(material / "clips" / "metadata.csv", dtype=str)
    voices = read_voices(material)
    faces = small_signals.read_faces(material / "signals" / "faces.parquet")
    seen: dict[str, set[str]] = {"speakers": set(), "persons": set()}
    vary, draw = small_training.vary_faces, small_training.draw_spectrogram

    def drawn(all_voices, index, *others):
        seen["speakers"].add(all_voices.speakers[index])
        return draw(all_voices, index, *others)

    def varied(images, *others):
        of = [(images[:1] == each).flatten(1).all(1).any() for each in faces.images.split(1)]
        seen["persons"] |= {faces.persons[index] for index, same in enumerate(of) if same}
        return vary(images, *others)

    monkeypatch.setattr(small_training, "draw_spectrogram", drawn)
    monkeypatch.setattr(small_training, "vary_faces", varied)
    small_foal_net._read_clips(material / "clips", metadata, runs / "clips.pt")
    settings = small_foal_net.SHORT
    for group in (1, 4):
        for each in seen.values():
            each.clear()
        small_foal_net.run_fold(material / "signals", runs, metadata, group, 0, settings)
        run_of_group = json.loads(small_foal_net._file(runs, group, 0).read_text(encoding="utf-8"))
        own = metadata.iloc[run_of_group["test"]]
        assert seen["speakers"] == set(voices.speakers) - set(own["speaker"])
        assert seen["persons"] and not seen["persons"] & set(own["person"])
        assert run_of_group["test"] == small_signals.groups_of(metadata, NUM_SPEAKERS)[group].tolist()
    groups = np.concatenate(small_signals.groups_of(metadata, NUM_SPEAKERS))
    assert sorted(groups) == list(range(len(metadata)))


def test_foal_net_small_is_made_measured_and_resumed(material, runs, tmp_path) -> None:
    checkpoint = tmp_path / "checkpoint"
    result = run(material, runs, "--seeds", "0", "--only-folds", "1", "4", "--checkpoint", str(checkpoint))
    rows = {(row[0], row[1]) for row in result["rows"]}
    assert {("sound alone", "picture removed"), ("fusion", "both"), ("Foal-Net", "both degraded")} <= rows
    model = FoalNetForEmotionClassification.from_pretrained(checkpoint)
    assert model.config.calibration_temperature > 0 and list(model.config.id2label.values()) == LABELS
    assert FoalNetProcessor.from_pretrained(checkpoint).video_processor.crop == "face"
    assert len(Results.load(checkpoint / "results.json").splits["train"].clip_ids) == NUM_SPEAKERS * len(LABELS)
    (kept, again) = (runs / f"group-{group}-seed-0.json" for group in (1, 4))
    before, content = kept.stat().st_mtime_ns, json.loads(again.read_text(encoding="utf-8"))["logits"]
    again.unlink()
    run(material, runs, "--seeds", "0", "--only-folds", "1", "4")
    assert kept.stat().st_mtime_ns == before
    assert json.loads(again.read_text(encoding="utf-8"))["logits"] == content  # to the bit


def test_the_teacher_is_asked_about_the_moment_that_the_encoder_sees(material) -> None:
    """A ramp over time as embedding: what is drawn of any part, at any speed, has its own place on it."""
    voices = read_voices(material)
    random = np.random.default_rng(0)
    for index in range(5):
        seconds = 0.02 * len(voices.spectrograms[index][0])
        spectrogram, places = small_signals.draw_spectrogram(voices, index, 31, random)
        times = places * 0.08 + 0.38
        assert len(spectrogram) == len(places) == 31
        assert times.min() >= 0 and times.max() <= seconds + 0.04
        assert torch.allclose(times.diff(), times.diff()[0], atol=1e-4)
        goal, known = small_training._at(torch.arange(7.0)[:, None], places, 31)
        torch.testing.assert_close(goal[known, 0], places[known], atol=1e-4, rtol=0)
        assert torch.equal(known, (places >= 0) & (places <= 6))


def test_a_temperature_is_fitted_on_other_people_only() -> None:
    metadata = pd.DataFrame({"emotion": LABELS * 20, "person": [f"p{row % 40}" for row in range(80)]})
    random = np.random.default_rng(0)
    logits = 3 * random.standard_normal((80, 4)) + 2 * np.eye(4)[np.arange(80) % 4]
    tests = {
        (fold, 0): {"test": list(range(40 * fold, 40 * fold + 40)), "logits": {"Foal-Net": {"both": part.tolist()}}}
        for fold, part in enumerate((logits[:40], logits[40:]))
    }
    # Persons p0 to p39 are in both groups: nothing is left to fit on.
    with pytest.raises(ValueError, match="needs at least"):
        small_foal_net._calibrated(tests, metadata, "Foal-Net", "both")
    metadata["person"] = [f"p{row}" for row in range(80)]
    scores = small_foal_net._calibrated(tests, metadata, "Foal-Net", "both")
    fitted = small_foal_net.fit_temperature(logits[40:], np.arange(40) % 4)
    np.testing.assert_allclose(scores[:40], torch.tensor(logits[:40] / fitted).softmax(-1).numpy(), atol=1e-6)
