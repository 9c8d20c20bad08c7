"""The processor: what goes in, what comes out, that padding and company change nothing, saving and loading."""

import http.server
import io
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Audio, Dataset, Video
from media_builders import (
    BEEP_HERTZ,
    BEEP_START,
    BEEP_STOP,
    CLOCK_SECONDS,
    beep_start,
    clock_seconds,
    loudest_hertz,
    make_clip,
    tone,
)
from PIL import Image
from requirements import need
from tiny_models import tiny_model
from tiny_processors import PIXELS, picture, tiny_image_processor, tiny_processor
from torchcodec.decoders import AudioDecoder, VideoDecoder
from transformers import Trainer, TrainingArguments, Wav2Vec2FeatureExtractor
from with_torchvision import TORCHVISION, WITH_TORCHVISION, WITHOUT_TORCHVISION

from foal_hf import FoalNetForEmotionClassification, FoalNetProcessor, MediaError


RATE = 16_000
SAME = {"atol": 0, "rtol": 0}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A film with sound, one without, and a sound file: 3 s of clock picture and a beep."""
    folder = tmp_path_factory.mktemp("media")
    return SimpleNamespace(
        film=make_clip(folder / "film.mp4"),
        silent=make_clip(folder / "silent.mp4", audio=None),
        sound=make_clip(folder / "sound.wav", video=None),
    )


@pytest.fixture(scope="module")
def model() -> FoalNetForEmotionClassification:
    return tiny_model()


def waveform(batch: Any, row: int = 0) -> torch.Tensor:
    """The sound of a clip without its padding."""
    return batch["input_values"][row][batch["attention_mask"][row].bool()]


def shown_seconds(batch: Any, row: int = 0) -> list[float]:
    """The moments of the clock film that a clip's frames show; the processor may not normalise."""
    return clock_seconds(batch["pixel_values_videos"][row][batch["padding_mask_videos"][row].bool()] * 255)


# What comes out


def test_one_call_gives_sound_picture_and_masks_of_many_clips(media: SimpleNamespace) -> None:
    batch = tiny_processor()(
        audio=[tone(440, RATE, 1.1), None, media.film],
        videos=[media.film, media.silent, None],
        sampling_rate=RATE,
        end_seconds=[None, 1.5, 0.7],
    )
    assert sorted(batch) == ["attention_mask", "input_values", "padding_mask_videos", "pixel_values_videos"]
    assert batch.modalities == [("audio", "video"), ("video",), ("audio",)]
    assert batch["input_values"].shape == (3, round(1.1 * RATE))
    assert batch["attention_mask"].sum(dim=1).tolist() == [round(1.1 * RATE), 0, round(0.7 * RATE)]
    assert batch["pixel_values_videos"].shape == (3, 15, 3, PIXELS, PIXELS)
    assert batch["padding_mask_videos"].sum(dim=1).tolist() == [15, 8, 0]
    assert batch["input_values"].dtype == batch["pixel_values_videos"].dtype == torch.float32
    assert batch["attention_mask"].dtype == batch["padding_mask_videos"].dtype == torch.long


@pytest.mark.parametrize(
    ("argument", "name", "keys", "modalities"),
    [
        ("audio", "film", ["attention_mask", "input_values"], ("audio",)),
        ("audio", "sound", ["attention_mask", "input_values"], ("audio",)),
        ("videos", "film", ["padding_mask_videos", "pixel_values_videos"], ("video",)),
        ("videos", "silent", ["padding_mask_videos", "pixel_values_videos"], ("video",)),
    ],
)
def test_a_modality_that_no_clip_has_is_left_out(
    media: SimpleNamespace, argument: str, name: str, keys: list[str], modalities: tuple[str, ...]
) -> None:
    batch = tiny_processor()(**{argument: getattr(media, name)})
    assert sorted(batch) == keys
    assert batch.modalities == [modalities]


def test_sound_comes_from_the_film_on_request(media: SimpleNamespace) -> None:
    batch = tiny_processor(normalize=False)(videos=[media.film, media.silent], load_audio_from_video=True)
    assert batch.modalities == [("audio", "video"), ("video",)]
    assert loudest_hertz(waveform(batch), RATE) == pytest.approx(BEEP_HERTZ, abs=10)


def test_sound_and_picture_of_one_instant_stay_together(media: SimpleNamespace) -> None:
    processor = tiny_processor(normalize=False, frames_per_second=30)
    batch = processor(videos=media.film, load_audio_from_video=True, start_seconds=1.1)
    assert shown_seconds(batch).index(float("inf")) / 30 == pytest.approx(0.4, abs=1e-6)
    assert beep_start(waveform(batch), RATE) == pytest.approx(0.4, abs=0.03)


# Every kind of source


@pytest.fixture(scope="module")
def server(media: SimpleNamespace) -> Iterator[str]:
    """Address of a web server that gives the film."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = media.film.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as web:
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}/film.mp4"
        web.shutdown()
        thread.join()


@pytest.mark.parametrize("kind", ["str", "path", "bytes", "file", "buffer", "row of a path", "row of bytes", "url"])
def test_every_kind_of_film_gives_the_same_inputs(media: SimpleNamespace, server: str, kind: str) -> None:
    data = media.film.read_bytes()
    processor = tiny_processor()
    expected = processor(videos=media.film, load_audio_from_video=True)
    with media.film.open("rb") as file:
        source = {
            "str": str(media.film),
            "path": media.film,
            "bytes": data,
            "file": file,
            "buffer": io.BytesIO(data),
            "row of a path": {"path": str(media.film), "bytes": None},
            "row of bytes": {"path": None, "bytes": data},
            "url": server,
        }[kind]
        batch = processor(videos=source, load_audio_from_video=True)
    assert batch.modalities == [("audio", "video")]
    for name, tensor in expected.items():
        torch.testing.assert_close(batch[name], tensor, **SAME)


def test_decoders_are_read_as_they_are(media: SimpleNamespace) -> None:
    processor = tiny_processor()
    expected = processor(audio=media.film, videos=media.film)
    batch = processor(audio=AudioDecoder(media.film), videos=VideoDecoder(media.film))
    for name, tensor in expected.items():
        torch.testing.assert_close(batch[name], tensor, atol=2e-4, rtol=0)


@pytest.mark.parametrize("is_decoded", [True, False])
def test_columns_of_datasets_are_read(media: SimpleNamespace, is_decoded: bool) -> None:
    rows = Dataset.from_dict({"audio": [str(media.sound)] * 2, "video": [str(media.silent)] * 2})
    rows = rows.cast_column("audio", Audio(decode=is_decoded)).cast_column("video", Video(decode=is_decoded))
    processor = tiny_processor()
    expected = processor(audio=[media.sound] * 2, videos=[media.silent] * 2)
    for audio, videos in ((rows["audio"][:], rows["video"][:]), ([rows[0]["audio"]] * 2, [rows[0]["video"]] * 2)):
        batch = processor(audio=audio, videos=videos)
        for name, tensor in expected.items():
            torch.testing.assert_close(batch[name], tensor, **SAME)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor, list], ids=["numpy", "torch", "list"])
def test_one_array_is_one_sound_and_a_list_of_arrays_is_many(make: Any) -> None:
    samples = tone(440, RATE, 0.1).tolist()
    processor = tiny_processor()
    one, two = (processor(audio=audio, sampling_rate=RATE) for audio in (make(samples), [make(samples)] * 2))
    assert one["input_values"].shape == (1, len(samples))
    torch.testing.assert_close(two["input_values"], one["input_values"].expand(2, -1), **SAME)


def test_a_list_of_pictures_is_one_clip() -> None:
    pictures = [Image.fromarray(picture(41, 31, seed)) for seed in range(3)]
    processor = tiny_processor()
    assert processor(videos=pictures)["pixel_values_videos"].shape[:2] == (1, 3)
    assert processor(videos=[pictures, pictures[:2]])["padding_mask_videos"].tolist() == [[1, 1, 1], [1, 1, 0]]


def test_a_still_picture_goes_with_any_sound(media: SimpleNamespace) -> None:
    batch = tiny_processor()(audio=media.sound, videos=[Image.fromarray(picture(41, 31))])
    assert batch.modalities == [("audio", "video")]
    assert batch["padding_mask_videos"].tolist() == [[1]]


def test_one_picture_is_a_still_picture(media: SimpleNamespace) -> None:
    still = Image.fromarray(picture(41, 31))
    alone, listed = (tiny_processor()(audio=media.sound, videos=videos) for videos in (still, [[still]]))
    assert alone.modalities == [("audio", "video")]
    torch.testing.assert_close(alone["pixel_values_videos"], listed["pixel_values_videos"], rtol=0, atol=0)


def test_no_frame_rate_in_a_call_is_the_rate_of_the_processor(media: SimpleNamespace) -> None:
    given, left_out = (tiny_processor()(videos=media.film, **rate) for rate in ({"frames_per_second": None}, {}))
    torch.testing.assert_close(given["pixel_values_videos"], left_out["pixel_values_videos"], rtol=0, atol=0)


# Sampling rates and channels


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
def test_a_tone_of_any_rate_keeps_its_frequency_and_loudness(rate: int) -> None:
    batch = tiny_processor(normalize=False)(audio=tone(440, rate, 1.0), sampling_rate=rate)
    heard = waveform(batch)
    assert len(heard) == RATE
    assert loudest_hertz(heard, RATE) == pytest.approx(440, abs=1)
    assert heard[500:-500].square().mean().item() == pytest.approx(0.5**2 / 2, rel=1e-3)


def test_a_row_brings_its_own_rate() -> None:
    processor = tiny_processor(normalize=False)
    rows = [{"array": tone(440, rate, 1.0).numpy(), "sampling_rate": rate} for rate in (8_000, 48_000)]
    batch = processor(audio=rows)
    assert [loudest_hertz(waveform(batch, row), RATE) for row in range(2)] == pytest.approx([440, 440], abs=1)


@pytest.mark.parametrize("audio", [tone(440, RATE, 0.1), [0.1, 0.2], [tone(440, RATE, 0.1).numpy()]])
def test_a_missing_rate_is_an_error_that_names_the_argument(audio: Any) -> None:
    with pytest.raises(ValueError, match="needs `sampling_rate`"):
        tiny_processor()(audio=audio)


def test_stereo_is_averaged() -> None:
    left, right = tone(440, RATE, 0.1), tone(550, RATE, 0.1)
    batch = tiny_processor(normalize=False)(audio=torch.stack([left, right]), sampling_rate=RATE)
    torch.testing.assert_close(batch["input_values"], (left + right)[None] / 2, atol=1e-6, rtol=0)


# The part of the medium that is the clip


def test_range_and_crop_hold_for_all_clips_or_for_each(media: SimpleNamespace) -> None:
    processor = tiny_processor(normalize=False)
    films = [media.film, media.silent]
    batch = processor(videos=films, start_seconds=0.5, end_seconds=1.1, load_audio_from_video=True)
    for row in range(2):
        assert shown_seconds(batch, row) == pytest.approx([0.5, 0.7, 0.9])
    assert len(waveform(batch)) == round(0.6 * RATE)
    starts, ends = [0.1, 2.0], [0.5, None]
    for each in ((starts, ends), (np.array(starts), ends), (torch.tensor(starts), tuple(ends))):
        batch = processor(videos=films, start_seconds=each[0], end_seconds=each[1])
        assert shown_seconds(batch, 0) == pytest.approx([0.1, 0.3])
        assert shown_seconds(batch, 1) == pytest.approx([2.0, 2.2, 2.4, 2.6, 2.8])


@pytest.mark.parametrize("form", [list, tuple, np.array])
def test_crop_boxes_cut_what_they_say(form: Any) -> None:
    frames = picture(67, 53)[None]
    processor = tiny_processor()
    boxes = [(3, 5, 41, 43), (7, 0, 67, 31)]
    cut = [processor(videos=frames[:, top:bottom, left:right]) for left, top, right, bottom in boxes]
    for box, expected in zip(boxes, cut, strict=True):
        one = processor(videos=[frames, frames], crop_box=form(box))
        for row in range(2):
            torch.testing.assert_close(
                one["pixel_values_videos"][row], expected["pixel_values_videos"][0], atol=0, rtol=0
            )
    each = processor(videos=[frames, frames, frames], crop_box=[None, *map(form, boxes)])
    whole = processor(videos=frames)
    for row, expected in enumerate([whole, *cut]):
        torch.testing.assert_close(each["pixel_values_videos"][row], expected["pixel_values_videos"][0], **SAME)


def test_max_seconds_cuts_both_modalities(media: SimpleNamespace) -> None:
    processor = tiny_processor(max_seconds=1.3)
    batch = processor(videos=media.film, load_audio_from_video=True)
    assert batch["input_values"].shape == (1, round(1.3 * RATE))
    assert batch["pixel_values_videos"].shape[:2] == (1, 7)
    whole = processor(videos=media.film, load_audio_from_video=True, max_seconds=None)
    assert whole["pixel_values_videos"].shape[1] == CLOCK_SECONDS * 5


# Padding and normalisation


def test_normalisation_is_per_clip_and_padding_does_not_change_it() -> None:
    sounds = [tone(440, RATE, 0.31, amplitude) for amplitude in (0.03, 0.5)]
    sounds[1] = torch.cat([sounds[1], sounds[1]]) + 0.2
    processor = tiny_processor()
    for padding in (True, "max_length"):
        batch = processor(audio=sounds, sampling_rate=RATE, padding=padding)
        for row, sound in enumerate(sounds):
            heard = waveform(batch, row)
            torch.testing.assert_close(heard, (sound - sound.mean()) / sound.std(correction=0), atol=1e-4, rtol=1e-3)
            alone = processor(audio=sound, sampling_rate=RATE)["input_values"][0]
            torch.testing.assert_close(heard, alone, **SAME)
            assert not batch["input_values"][row, len(heard) :].any()


def test_without_normalisation_the_waveform_is_as_it_was() -> None:
    sound = tone(440, RATE, 0.1, amplitude=0.03)
    batch = tiny_processor(normalize=False)(audio=sound, sampling_rate=RATE)
    torch.testing.assert_close(batch["input_values"][0], sound, **SAME)


@pytest.mark.parametrize("settings", [{}, {"frames_per_second": 30, "max_seconds": 4}])
def test_max_length_pads_to_the_seconds_that_are_read_at_most(media: SimpleNamespace, settings: dict[str, int]) -> None:
    batch = tiny_processor(max_seconds=3.5)(
        videos=[media.film, media.silent], load_audio_from_video=True, padding="max_length", **settings
    )
    seconds, rate = settings.get("max_seconds", 3.5), settings.get("frames_per_second", 5)
    assert batch["input_values"].shape == (2, round(seconds * RATE))
    assert batch["pixel_values_videos"].shape[:2] == (2, round(seconds * rate))
    assert batch["padding_mask_videos"].sum(dim=1).tolist() == [CLOCK_SECONDS * rate] * 2


def test_a_batch_of_clips_that_were_read_is_padded_as_a_call_pads() -> None:
    processor = tiny_processor()
    clips = [processor.read(audio=np.ones(800), source_sampling_rate=RATE, video=frames) for frames in (THREE, FRAMES)]
    asked = {"padding": "max_length", "max_seconds": 2.0}
    batch = processor.batch(clips, **asked, frames_per_second=7)
    assert batch["input_values"].shape == (2, 2 * RATE)
    assert batch["padding_mask_videos"].shape == (2, 14)
    assert processor.batch(clips, **asked)["padding_mask_videos"].shape == (2, 10)
    assert processor.batch(clips)["padding_mask_videos"].tolist() == [[1, 1, 1], [1, 0, 0]]
    with pytest.raises(ValueError, match=r"clips of one length, got \[3, 1\] frames"):
        processor.batch(clips, padding=False)


# What every processor of transformers takes


def test_settings_come_flat_or_for_a_modality_or_for_all(media: SimpleNamespace) -> None:
    processor = tiny_processor()
    expected = processor(videos=media.film, load_audio_from_video=True, do_normalize=False, padding="max_length")
    nested = {"videos_kwargs": {"do_normalize": False}, "audio_kwargs": {"padding": "max_length"}}
    given = processor(videos=media.film, load_audio_from_video=True, **nested, text_kwargs={})
    arrays = processor(videos=media.film, load_audio_from_video=True, **nested, common_kwargs={"return_tensors": "np"})
    assert expected["pixel_values_videos"].min() >= 0 and expected["pixel_values_videos"].max() <= 1
    for name, value in expected.items():
        assert given[name].equal(value)
        assert isinstance(arrays[name], np.ndarray) and (arrays[name] == value.numpy()).all()
    assert arrays.modalities == given.modalities == [("audio", "video")]
    rate = {"audio_kwargs": {"sampling_rate": 8_000, "return_tensors": "np", "device": "cpu"}, "images_kwargs": {}}
    resampled = processor(audio=np.ones(800), **rate)["input_values"]
    assert isinstance(resampled, np.ndarray) and resampled.shape == (1, 1_600)


def test_fields_of_a_call_change_its_frames_and_metadata_is_no_input() -> None:
    batch = tiny_processor()(videos=THREE, size={"height": 17, "width": 19}, do_center_crop=False, return_metadata=True)
    assert sorted(batch) == ["padding_mask_videos", "pixel_values_videos"]
    assert batch["pixel_values_videos"].shape == (1, 3, 3, 17, 19)


def test_frames_are_chosen_by_rate_or_number_or_not_at_all(media: SimpleNamespace) -> None:
    processor = tiny_processor(normalize=False)
    for settings, seconds in (
        ({"fps": 2}, [0, 0.5, 1, 1.5, 2, 2.5]),
        ({"num_frames": 4}, [0, 0.75, 1.5, 2.25]),
        ({"num_frames": 2, "start_seconds": 1.0, "end_seconds": 2.0}, [1, 1.5]),
        ({"num_frames": 2, "max_seconds": 1.0}, [0, 0.5]),
        ({"do_sample_frames": False, "fps": 2}, [frame / 30 for frame in range(90)]),
        ({"videos_kwargs": {"num_frames": 3}}, [0, 1, 2]),
    ):
        for source in (media.film, media.film.read_bytes()):
            shown = shown_seconds(processor(videos=source, **settings))
            flash = [math.inf if BEEP_START < second + 0.01 < BEEP_STOP else second for second in seconds]
            assert shown == pytest.approx(flash, abs=1 / 30)
            assert len(shown) == len(seconds)


def test_frames_given_as_arrays_are_chosen_by_their_own_rate() -> None:
    frames = np.stack([np.full((31, 41, 3), 10 * number, np.uint8) for number in range(8)])
    processor = tiny_processor(normalize=False)

    def chosen(**settings: Any) -> list[int]:
        pixels = processor(videos=frames, **settings)["pixel_values_videos"]
        return (pixels[0, :, 0, 0, 0] * 25.5).round().int().tolist()

    assert chosen() == chosen(do_sample_frames=False) == chosen(padding=False) == list(range(8))
    assert chosen(num_frames=3) == [0, 2, 5]
    for metadata in ({"fps": 4}, [{"fps": 4}], [[{"fps": 4}]]):
        assert chosen(fps=2, video_metadata=metadata) == [0, 2, 4, 6]
    assert chosen(fps=2, source_frames_per_second=4) == [0, 2, 4, 6]
    with pytest.raises(ValueError, match="one entry for each of the 1 videos, got 2"):
        chosen(video_metadata=[{"fps": 4}, {"fps": 5}])


def test_the_layout_of_arrays_can_be_said() -> None:
    processor = tiny_processor()
    last = processor(videos=THREE, input_data_format="channels_last")["pixel_values_videos"]
    assert last.equal(processor(videos=THREE)["pixel_values_videos"])
    first = THREE.transpose(0, 3, 1, 2)
    for videos in (first, [list(first)], torch.from_numpy(first)):
        assert processor(videos=videos, input_data_format="channels_first")["pixel_values_videos"].equal(last)
    with pytest.raises(MediaError, match="is neither layout"):
        processor(videos=first, input_data_format="channels_last")
    with pytest.raises(ValueError, match="input_data_format"):
        processor(videos=first, input_data_format="last")


def test_audio_can_be_cut_and_padded_as_a_feature_extractor_does() -> None:
    audio = [{"array": np.ones(samples), "sampling_rate": RATE} for samples in (500, 800)]
    processor = tiny_processor()
    shapes = {
        (2, 800): {},
        (2, 600): {"max_length": 600, "truncation": True, "padding": "max_length"},
        (2, 1_000): {"max_length": 1_000, "padding": "max_length"},
        (2, 896): {"pad_to_multiple_of": 128},
    }
    for shape, settings in shapes.items():
        batch = processor(audio=audio, **settings)
        assert batch["input_values"].shape == batch["attention_mask"].shape == shape
    assert "attention_mask" not in processor(audio=audio[:1], return_attention_mask=False)
    assert sorted(processor(videos=THREE, return_attention_mask=False)) == [
        "padding_mask_videos",
        "pixel_values_videos",
    ]
    asked = {"padding": "max_length", "max_length": 1_000}
    batch = tiny_processor(max_seconds=None)(audio=CLICK, videos=THREE, **asked)
    assert (batch["input_values"].shape[1], batch["pixel_values_videos"].shape[1]) == (1_000, 3)


def test_a_feature_extractor_that_gives_no_mask_is_asked_for_one() -> None:
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    audio = [{"array": np.ones(samples), "sampling_rate": RATE} for samples in (500, 800)]
    batch = FoalNetProcessor(extractor, tiny_processor().video_processor)(audio=audio, padding="longest")
    assert batch["attention_mask"].sum(dim=1).tolist() == [500, 800]


def test_a_clip_is_read_for_the_modalities_that_are_asked_for(media: SimpleNamespace) -> None:
    processor = tiny_processor()
    for side, other in (("waveform", "frames"), ("frames", "waveform")):
        clip = processor.read(media.film, modalities=("audio" if side == "waveform" else "video",))
        assert getattr(clip, side) is not None and getattr(clip, other) is None
    without_rate = np.ones(800)
    clip = processor.read(audio=without_rate, video=THREE, modalities=("video",))
    assert clip.waveform is None and len(clip.frames) == 3
    with pytest.raises(ValueError, match="needs `sampling_rate`"):
        processor.read(without_rate, modalities=("audio",))
    assert len(processor.read(media.silent, frames_per_second=None, modalities=("video",)).frames) == CLOCK_SECONDS * 5


def test_metadata_of_frames_can_be_returned(media: SimpleNamespace) -> None:
    asked = {"return_metadata": True}
    films, part = [media.film, media.silent], {"start_seconds": 0.5, "end_seconds": 2.7}
    for batch, metadata in (
        (tiny_processor().video_processor(films, **asked), (5, 15, 3)),
        (tiny_processor().video_processor(films, **asked, **part), (5, 11, 2.2)),
        (tiny_processor(**asked).video_processor(films), (5, 15, 3)),
    ):
        found = [(entry.fps, entry.total_num_frames, entry.duration) for entry in batch["video_metadata"]]
        assert found == [pytest.approx(metadata)] * 2
    assert "video_metadata" not in tiny_processor().video_processor(films)


@pytest.fixture
def encoders(tmp_path: Path) -> tuple[str, str]:
    """Folders of an audio encoder and of an image encoder, with what a processor reads of them."""
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(tmp_path / "audio")
    tiny_image_processor().save_pretrained(tmp_path / "vision")
    return str(tmp_path / "audio"), str(tmp_path / "vision")


def test_the_paper_setting_is_6_seconds_of_30_frames_and_the_bare_waveform(encoders: tuple[str, str]) -> None:
    paper = FoalNetProcessor.from_encoders_pretrained(*encoders, setting="paper")
    sound = tone(440, RATE, 7.0, amplitude=0.03)
    batch = paper(audio=sound, videos=picture(41, 31)[None].repeat(7, 0), sampling_rate=RATE, padding="max_length")
    assert batch["input_values"].shape == (1, 96_000)
    torch.testing.assert_close(batch["input_values"][0], sound[:96_000], **SAME)
    assert batch["pixel_values_videos"].shape == (1, 180, 3, PIXELS, PIXELS)
    default = FoalNetProcessor.from_encoders_pretrained(*encoders, max_seconds=None)
    assert (default.frames_per_second, default.max_seconds) == (5.0, None)
    assert default.feature_extractor.do_normalize
    with pytest.raises(ValueError, match="'default' or 'paper', got 'published'"):
        FoalNetProcessor.from_encoders_pretrained(*encoders, setting="published")


def test_a_processor_without_an_encoder_lacks_the_part_of_that_one_alone(encoders: tuple[str, str]) -> None:
    audio, vision = encoders
    neither = FoalNetProcessor.from_encoders_pretrained(None, None)
    assert (neither.feature_extractor, neither.video_processor) == (None, None)
    of_audio = FoalNetProcessor.from_encoders_pretrained(audio, None, setting="paper", max_seconds=2.0)
    assert of_audio.feature_extractor.do_normalize is False
    assert (of_audio.max_seconds, of_audio.frames_per_second) == (2.0, 30.0)
    of_video = FoalNetProcessor.from_encoders_pretrained(None, vision, setting="paper")
    assert of_video.feature_extractor is None
    assert of_video.video_processor.crop_size["height"] == PIXELS


# What is refused


FRAMES = picture(41, 31)[None]
THREE = np.stack([picture(41, 31, seed) for seed in range(3)])
CLICK = {"array": np.ones(800), "sampling_rate": RATE}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "^Nothing to process: give `audio`, `videos` or both"),
        ({"audio": []}, ValueError, "^Nothing to process: the list of clips is empty"),
        ({"videos": [FRAMES, None]}, ValueError, "Clip 1 has neither audio nor video"),
        ({"audio": [None, "a.wav"], "videos": [None, FRAMES]}, ValueError, "Clip 0 has neither audio nor video"),
        ({"audio": ["a.wav"], "videos": [FRAMES] * 2}, ValueError, "1 audios and 2 videos.*None where"),
        ({"videos": [FRAMES] * 2, "start_seconds": [0.0]}, ValueError, "2 clips, but 1 start_seconds"),
        ({"videos": [FRAMES] * 2, "end_seconds": [1.0] * 3}, ValueError, "3 end_seconds"),
        ({"videos": [FRAMES] * 2, "crop_box": [(0, 0, 9, 9)] * 3}, ValueError, "3 crop boxes"),
        ({"audio": "a.wav", "load_audio_from_video": True}, ValueError, "^`load_audio_from_video`.*do not give"),
        ({"videos": FRAMES, "return_tensors": "jax"}, ValueError, "return_tensors"),
        ({"videos": FRAMES, "padding": "shortest"}, ValueError, "padding"),
        ({"videos": [THREE, FRAMES], "padding": False}, ValueError, r"clips of one length, got \[3, 1\] frames"),
        ({"videos": [THREE, FRAMES], "padding": "do_not_pad"}, ValueError, r"one length, got \[3, 1\] frames"),
        ({"audio": [CLICK] * 2, "videos": [FRAMES, None], "padding": False}, ValueError, r"got \[1, 0\] frames"),
        ({"audio": [CLICK, None], "videos": [FRAMES] * 2, "padding": False}, ValueError, r"got \[800, 0\] samples"),
        ({"videos": FRAMES, "videos_kwargs": {"fbs": 3}}, TypeError, "Unknown arguments: fbs"),
        ({"videos": FRAMES, "audio_kwargs": {"do_normalize": False}}, TypeError, "Unknown arguments: do_normalize"),
        ({"videos": FRAMES, "text_kwargs": {"padding": True}}, TypeError, "Unknown arguments: padding"),
        ({"videos": FRAMES, "images_kwargs": {"size": 9}}, TypeError, "Unknown arguments: size"),
        ({"videos": FRAMES, "videos_kwargs": {"size": 9}, "size": 9}, ValueError, "size was passed two times"),
        ({"videos": FRAMES, "fps": 3}, ValueError, "`fps` of frames given as an array needs their own rate"),
        ({"videos": THREE, "num_frames": 4}, ValueError, "must be from 1 to the 3 frames of the clip, got 4"),
        ({"videos": FRAMES, "fps": 3, "num_frames": 2}, ValueError, "exclude each other"),
        ({"videos": FRAMES, "data_format": "channels_last"}, ValueError, "`data_format` must be 'channels_first'"),
        ({"videos": FRAMES, "padding": "max_length", "max_seconds": None}, ValueError, "^`padding=.max_length.` needs"),
        ({"videos": FRAMES, "text": "hello"}, TypeError, "Unknown arguments: text.*load_audio_from_video"),
        ({"audio": "missing.wav"}, MediaError, "missing.wav: no such file"),
    ],
)
def test_calls_without_sense_say_why(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tiny_processor()(**arguments)


def test_a_film_without_sound_is_no_sound(media: SimpleNamespace) -> None:
    with pytest.raises(MediaError, match=r"silent\.mp4: holds no audio"):
        tiny_processor()(audio=media.silent)


# Into the model


def test_two_clips_at_once_give_the_logits_of_each_alone(
    media: SimpleNamespace, model: FoalNetForEmotionClassification
) -> None:
    processor = tiny_processor()
    clips = [
        {"audio": media.film, "videos": media.film},
        {"audio": tone(440, 8_000, 0.53), "videos": picture(41, 31)[None].repeat(3, 0)},
        {"audio": media.sound, "videos": None},
        {"audio": None, "videos": media.silent},
    ]
    with torch.no_grad():
        together = processor(
            audio=[clip["audio"] for clip in clips], videos=[clip["videos"] for clip in clips], sampling_rate=8_000
        )
        logits = model(**together).logits
        for row, clip in enumerate(clips):
            alone = model(**processor(**clip, sampling_rate=8_000)).logits[0]
            torch.testing.assert_close(logits[row], alone, atol=1e-5, rtol=0)
    assert (logits[0] - logits[1]).abs().max() > 1e-3  # what the model sees does matter


# Saving and loading


def test_a_saved_processor_is_one_file_and_gives_the_same_numbers(media: SimpleNamespace, tmp_path: Path) -> None:
    processor = tiny_processor(frames_per_second=7, max_seconds=None)
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".py"] == ["processor_config.json"]
    written = json.loads((tmp_path / "processor_config.json").read_text())
    assert written["processor_class"] == "FoalNetProcessor"
    assert written["video_processor"]["frames_per_second"] == 7
    assert written["feature_extractor"]["sampling_rate"] == RATE
    loaded = FoalNetProcessor.from_pretrained(tmp_path)
    assert loaded.max_seconds is None
    expected = processor(videos=media.film, load_audio_from_video=True)
    batch = loaded(videos=media.film, load_audio_from_video=True)
    for name, tensor in expected.items():
        torch.testing.assert_close(batch[name], tensor, **SAME)


def test_a_processor_whose_parts_lie_in_files_of_their_own_is_loaded_and_changed_by_arguments(tmp_path: Path) -> None:
    tiny_processor(frames_per_second=7).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "processor_config.json").read_text())
    for name, file in (("feature_extractor", "preprocessor_config"), ("video_processor", "video_preprocessor_config")):
        (tmp_path / f"{file}.json").write_text(json.dumps(written.pop(name)))
    (tmp_path / "processor_config.json").write_text(json.dumps(written))
    loaded = FoalNetProcessor.from_pretrained(tmp_path, max_seconds=None)
    assert (loaded.sampling_rate, loaded.frames_per_second, loaded.max_seconds) == (RATE, 7, None)


def test_the_processor_names_the_inputs_that_it_gives(media: SimpleNamespace) -> None:
    processor = tiny_processor()
    assert set(processor(videos=media.film, load_audio_from_video=True)) == set(processor.model_input_names)


def test_trainer_saves_the_processor_with_its_checkpoints(
    media: SimpleNamespace, model: FoalNetForEmotionClassification, tmp_path: Path
) -> None:
    processor = tiny_processor()
    batch = processor(videos=media.film, load_audio_from_video=True, max_seconds=0.5)
    rows = [{name: tensor[0] for name, tensor in batch.items()} | {"labels": torch.tensor(label)} for label in (0, 1)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=1, save_steps=1, per_device_train_batch_size=2, report_to=[], use_cpu=True,
        disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trained = FoalNetForEmotionClassification(model.config)
    Trainer(model=trained, args=arguments, train_dataset=rows, processing_class=processor).train()
    loaded = FoalNetProcessor.from_pretrained(tmp_path / "checkpoint-1")
    assert loaded.video_processor.to_dict() == processor.video_processor.to_dict()


# With torchvision and without


LOAD_AND_CALL = """
import sys
import torch
import foal_hf
from transformers import AutoProcessor
from transformers.utils import is_torchvision_available

folder, film, has_torchvision = sys.argv[1:]
assert is_torchvision_available() == (has_torchvision == "True")
processor = AutoProcessor.from_pretrained(folder)
assert type(processor) is foal_hf.FoalNetProcessor
if has_torchvision == "True":
    assert type(AutoVideoProcessor.from_pretrained(folder)) is foal_hf.FoalNetVideoProcessor
torch.save(dict(processor(videos=film, load_audio_from_video=True)), folder + "/batch.pt")
processor.save_pretrained(folder + "/again")
"""


@pytest.mark.parametrize("has_torchvision", [False, True], ids=["without torchvision", "with torchvision"])
def test_a_fresh_process_loads_the_processor(media: SimpleNamespace, tmp_path: Path, has_torchvision: bool) -> None:
    if has_torchvision:
        need("torchvision")
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    world = WITH_TORCHVISION if has_torchvision else WITHOUT_TORCHVISION
    subprocess.run(
        [sys.executable, "-c", world + LOAD_AND_CALL, tmp_path, media.film, str(has_torchvision)],
        check=True,
        env={**os.environ, "PYTHONPATH": str(TORCHVISION) if has_torchvision else ""},
    )
    batch = torch.load(tmp_path / "batch.pt")
    for name, tensor in processor(videos=media.film, load_audio_from_video=True).items():
        torch.testing.assert_close(batch[name], tensor, **SAME)
    saved, again = (folder / "processor_config.json" for folder in (tmp_path, tmp_path / "again"))
    assert again.read_text() == saved.read_text()
