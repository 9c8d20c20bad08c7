"""The benchmarks of the model: both ways compute the same, costs are counted right, and the scripts run."""

import json
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.utils import logging


sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))  # scripts: they import each other by name

import clip_to_label
import estimate
import front_end
import inference
import report
import training_step
import wavlm_attention
import workload
from harness import Limits
from published import PublishedFoalNet, prepare_picture, read_pictures, read_sound, with_weights_of

from foal_hf.experiments.machines import Machine


COMMON = ["--short", "--rounds", "1", "--threads", "1"]
# torch deprecates what transformers' WavLM does with its masks.
pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")


@pytest.fixture(autouse=True)
def _settings_of_the_process():
    """Scripts set them for themselves."""
    verbosity, progress, threads = logging.get_verbosity(), logging.is_progress_bar_enabled(), torch.get_num_threads()
    yield
    logging.set_verbosity(verbosity)
    torch.set_num_threads(threads)
    if progress:
        logging.enable_progress_bar()


@pytest.fixture(autouse=True)
def _limits_that_take_no_time(monkeypatch):
    for script in (clip_to_label, front_end, inference, training_step, wavlm_attention):
        monkeypatch.setattr(script, "limits", lambda *_: Limits(1e11, 1e10))


@pytest.fixture(scope="module")
def model():
    return workload.make_model(2, width=128).eval()


def results_of(main, folder: Path, name: str, *arguments: str) -> dict:
    """What a script leaves, after a look at whether a page can be made of it."""
    main([*COMMON, "--output", str(folder), *arguments])
    result = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    assert f"### {result['title']}" in report.report(folder)
    assert report.section_of(name) is not None
    assert str(folder) not in json.dumps(result) and result["short"]
    return result


def test_published_way_gives_the_loss_and_gradients_of_the_package(model) -> None:
    published = PublishedFoalNet(model).eval()
    clips = [0.7, 1.3, 1.1, 0.9], 11.0, model.config.video_width
    gradients = []
    for way, batch in (
        (model, workload.make_batch(*clips)),
        (published, workload.make_batch(*clips, padded_to=2.0)),
    ):
        output = way(**batch)
        output.loss.backward()
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
        gradients[-1].append(output.loss.detach())
        model.zero_grad()
    assert len(gradients[0]) == len(gradients[1]) > 50
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-4)


def test_published_way_holds_the_very_parameters_of_the_package(model) -> None:
    known = {id(parameter) for parameter in model.parameters()}
    published = PublishedFoalNet(model)
    assert all(id(parameter) in known for parameter in published.parameters())
    assert type(published.audio_encoder).__name__ == "WavLMModel"
    assert published.vision_encoder.config._attn_implementation == "eager"


def test_padding_of_the_recipe_does_not_change_what_a_clip_holds() -> None:
    short = workload.make_batch([0.3, 0.5], 7.0, 11)
    padded = workload.make_batch([0.3, 0.5], 7.0, 11, padded_to=1.0)
    assert padded["input_values"].shape == (2, 16_000) and padded["video_features"].shape == (2, 7, 11)
    for name in ("input_values", "video_features", "attention_mask", "padding_mask_videos"):
        torch.testing.assert_close(padded[name][:, : short[name].shape[1]], short[name])
        assert not padded[name][:, short[name].shape[1] :].any()


def test_chosen_batches_stand_for_the_epoch() -> None:
    epoch = workload.Epoch.of(3, 4)
    assert [len(batch) for batch in epoch.batches] == [4, 4, 4]
    assert epoch.chosen_seconds == pytest.approx(epoch.padded_seconds, rel=0.05)


def test_operations_are_counted_as_torch_counts_them(model) -> None:
    encoders = PublishedFoalNet(model)
    config = model.config
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        encoders.audio_encoder(torch.randn(1, 16_000))
    ours = workload.front_end_flops(config, 1.0) + workload.transformer_flops(config, 1.0)
    assert ours == pytest.approx(counted.get_total_flops(), rel=0.01)
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        encoders.vision_encoder(torch.randn(1, 3, 224, 224))
    assert workload.image_flops(config) == pytest.approx(counted.get_total_flops(), rel=0.01)
    audio, video = torch.randn(1, 49, config.audio_width), torch.randn(1, 30, config.video_width)
    masks = torch.ones(1, 49, dtype=torch.bool), torch.ones(1, 30, dtype=torch.bool)
    fusion = encoders.fusion
    with torch.no_grad(), FlopCounterMode(display=False) as counted:
        encoders.attend(fusion.audio_queries_video, audio, masks[0], video, masks[1])
        encoders.attend(fusion.video_queries_audio, video, masks[1], audio, masks[0])
    assert workload.audio_frames(config, 1.0) == 49
    assert workload.fusion_flops(config, 1.0, 30.0) == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_plain_reading_gives_the_pictures_and_sound_of_the_processor(tmp_path) -> None:
    path = clip_to_label.make_clip(tmp_path, 1.0)
    batch = clip_to_label.make_processor(30.0)(videos=path, load_audio_from_video=True)
    settings = clip_to_label.make_processor(30.0).video_processor
    pictures = torch.stack([prepare_picture(picture, settings) for picture in read_pictures(path)])
    got = batch["pixel_values_videos"][0]
    assert got.shape == pictures.shape == (30, 3, 224, 224)
    # torchcodec and PyAV round colours differently: a level of 255 more or less, two at single places.
    level = 1 / 255 / min(settings.image_std)
    torch.testing.assert_close(got, pictures, atol=2.01 * level, rtol=0)
    assert ((got - pictures).abs() > 1.01 * level).float().mean() < 1e-4
    sound = read_sound(path)
    torch.testing.assert_close(batch["input_values"][0, : len(sound)], sound, atol=1e-2, rtol=0)


def test_training_steps_are_compared_on_the_same_weights(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training_step, "in_a_process", lambda function, *args: (function(*args), 3))
    sizes = ["--layers", "1", "--memory-batch-size", "1", "--num-batches", "1"]
    result = results_of(training_step.main, tmp_path, "training_step", *sizes)
    assert [row[0] for row in result["rows"]] == list(training_step.WAYS)
    assert len(result["targets"]) == 2


def test_estimates_are_compared_with_steps_of_the_same_round(tmp_path, monkeypatch) -> None:
    machine = Machine("a slow one", "cpu", 1e9, 1e9, 1e9, 1e-6, usable_bytes=2**30)
    monkeypatch.setattr(estimate, "this_machine", lambda: machine)
    monkeypatch.setattr(estimate, "in_a_process", lambda function, *args: (1000, 5000))
    result = results_of(estimate.main, tmp_path, "estimate")
    assert [row[0] for row in result["rows"]] == list(estimate.CASES)
    assert all(row[5] == pytest.approx(4000 * row[7]) for row in result["rows"])
    assert len(result["targets"]) == 8


def test_inference_is_compared_and_split(tmp_path) -> None:
    result = results_of(inference.main, tmp_path, "inference", "--num-batches", "1")
    assert len(result["rows"]) == 6 and len(result["targets"]) == 3


def test_attention_agrees_at_every_length(tmp_path) -> None:
    result = results_of(wavlm_attention.main, tmp_path, "wavlm_attention", "--seconds", "0.3", "0.7")
    assert len(result["rows"]) == 8
    assert result["targets"][0]["met"]


def test_attention_that_differs_is_noticed(model, monkeypatch) -> None:
    encoder = model.foal_net.audio_encoder
    other = workload.make_model(2, width=128).eval().foal_net.audio_encoder
    with torch.no_grad():
        other.encoder.layers[0].attention.v_proj.weight.mul_(1.01)
    options = type("Options", (), {"batch_size": 2, "width": 128, "device": "cpu", "dtype": "float32"})()
    from transformers import WavLMModel

    layer = wavlm_attention.AttentionLayer(
        {"eager": with_weights_of(other, WavLMModel), "sdpa": encoder}, options, 13, False
    )
    assert layer.compare(False) > 1e-3


def test_front_ends_agree(tmp_path) -> None:
    result = results_of(front_end.main, tmp_path, "front_end", "--shapes", "2x0.5")
    differences = [float(row[-1]) for row in result["rows"]]
    assert max(differences[0], differences[2]) < 1e-5 and differences[1] < 0.1


def test_way_from_file_to_scores_is_timed_by_stage(tmp_path) -> None:
    result = results_of(clip_to_label.main, tmp_path, "clip_to_label", "--overlap-width", "128", "--overlap-clips", "2")
    assert [row[1] for row in result["rows"]] == [30, 30, 5]
    assert (tmp_path / "clip_to_label_overlap.json").is_file()


def test_frame_rates_are_compared_on_clips_of_a_folder(tmp_path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    clip_to_label.make_clip(clips, 1.0)
    result = results_of(clip_to_label.main, tmp_path, "clip_to_label_frame_rates", "--clips", str(clips))
    assert [row[0] for row in result["rows"]] == ["30", "15", "10", "5", "2"]
    assert result["rows"][0][2] == 1.0 and result["rows"][0][3] == 0.0
