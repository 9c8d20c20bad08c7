"""The video processor: the numbers of the encoder's image processor, its settings, and what it takes."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from media_builders import CLOCK_SECONDS, clock_seconds, make_clip
from PIL import Image
from requirements import need
from tiny_processors import PIXELS, picture, tiny_image_processor, tiny_video_processor
from transformers import (
    BitImageProcessorPil,
    CLIPImageProcessorPil,
    ConvNextImageProcessorPil,
    EfficientNetImageProcessorPil,
    LevitImageProcessorPil,
    MobileNetV2ImageProcessorPil,
    SiglipImageProcessorPil,
    VideoMAEImageProcessorPil,
    ViTImageProcessorPil,
    VivitImageProcessor,
)

from foal_hf import FoalNetProcessor, FoalNetVideoProcessor, MediaError
from foal_hf.foal_net.video_processing_foal_net import check_known


IMAGE_PROCESSORS: dict[str, Any] = {
    "clip": CLIPImageProcessorPil(),
    "siglip": SiglipImageProcessorPil(),
    "dinov2": BitImageProcessorPil(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    ),
    "vit": ViTImageProcessorPil(),
    "convnext": ConvNextImageProcessorPil(size={"shortest_edge": 224}),
    "convnext-384": ConvNextImageProcessorPil(size={"shortest_edge": 384}),
    "efficientnet": EfficientNetImageProcessorPil(),
    "efficientnet-shifted": EfficientNetImageProcessorPil(rescale_offset=True, rescale_factor=1 / 127.5),
    "mobilenetv2": MobileNetV2ImageProcessorPil(),
    "videomae": VideoMAEImageProcessorPil(),
    "vivit": VivitImageProcessor(),
}
BILINEAR, BICUBIC = 2, 3


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("media") / "silent.mp4", audio=None)


def deviations(image_processor: Any, pixels: np.ndarray, **fields: Any) -> torch.Tensor:
    """How far a frame is from what the image processor makes of it, in steps of a byte (1/255 once rescaled)."""
    expected = image_processor([Image.fromarray(pixels)], return_tensors="pt", **fields)["pixel_values"]
    expected = expected.reshape(-1, *expected.shape[-3:])[0]  # of clips, in processors of videos
    processor = FoalNetVideoProcessor.from_image_processor(image_processor, **fields)
    given = processor([pixels])["pixel_values_videos"][0, 0]
    assert given.shape == expected.shape
    step = processor.rescale_factor if processor.do_rescale else 1.0
    std = torch.tensor(processor.image_std if processor.do_normalize else [1.0] * 3).view(3, 1, 1)
    return (given - expected).abs() * std / step


# The numbers of the image processor


@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC])
@pytest.mark.parametrize("size", [(320, 240), (241, 431), (101, 83), (37, 331), (224, 224)], ids=str)
@pytest.mark.parametrize("name", IMAGE_PROCESSORS)
def test_frames_are_those_of_the_image_processor(name: str, size: tuple[int, int], resample: int) -> None:
    apart = deviations(IMAGE_PROCESSORS[name], picture(*size), resample=resample)
    is_squashed = "shortest_edge" not in FoalNetVideoProcessor.from_image_processor(IMAGE_PROCESSORS[name]).size
    squashed = is_squashed and size[1] > size[0]
    if squashed:
        # Pillow shrinks the taller axis first, torch the width; both round to bytes in between.
        assert apart.mean() < 0.5
    else:
        assert apart.mean() < 0.02
        assert apart.max() < 2.01


def test_the_nearest_pixels_are_those_of_the_image_processor() -> None:
    assert deviations(tiny_image_processor(), picture(101, 83), resample=0).max() < 1e-3


@pytest.mark.parametrize("size", [(26, 26), (41, 26), (26, 43), (26, 31), (31, 26)], ids=str)
@pytest.mark.parametrize("crop", [(20, 20), (21, 23), (17, 26)], ids=str)
def test_the_crop_is_that_of_the_image_processor(size: tuple[int, int], crop: tuple[int, int]) -> None:
    crop_size = {"height": crop[0], "width": crop[1]}
    assert deviations(tiny_image_processor(), picture(*size), crop_size=crop_size).max() < 1e-3


@pytest.mark.parametrize("size", [(26, 26), (26, 43), (44, 26)], ids=str)
def test_a_picture_smaller_than_the_crop_is_framed_in_black(size: tuple[int, int]) -> None:
    # By an even number of pixels: where it is odd, transformers' own two backends differ by one pixel.
    crop_size = {"height": 30, "width": 30}
    assert deviations(tiny_image_processor(), picture(*size), crop_size=crop_size).max() < 1e-3


@pytest.mark.parametrize("switch", ["do_resize", "do_center_crop", "do_rescale", "do_normalize"])
def test_every_step_can_be_left_out(switch: str) -> None:
    pixels = picture(PIXELS, PIXELS) if switch == "do_resize" else picture(41, 31)
    assert deviations(tiny_image_processor(), pixels, **{switch: False}).max() < 2.01


def test_pixels_are_rounded_to_bytes_before_they_are_scaled() -> None:
    processor = tiny_video_processor(do_normalize=False)
    levels = processor([picture(101, 83)])["pixel_values_videos"] * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


def test_a_frame_of_one_colour_has_the_numbers_of_the_formula() -> None:
    frame = np.full((31, 41, 3), (51, 102, 204), dtype=np.uint8)
    processor = tiny_video_processor(image_mean=[0.5, 0.25, 0.125], image_std=[0.5, 0.25, 0.125])
    values = processor([frame])["pixel_values_videos"]
    expected = torch.tensor([(0.2 - 0.5) / 0.5, (0.4 - 0.25) / 0.25, (0.8 - 0.125) / 0.125])
    torch.testing.assert_close(values, expected.view(3, 1, 1).expand_as(values), atol=1e-6, rtol=0)


# Settings


def test_from_image_processor_takes_every_field() -> None:
    fields = {
        "do_resize": True,
        "size": {"height": 31, "width": 29},
        "resample": BILINEAR,
        "do_center_crop": True,
        "crop_size": {"height": 23, "width": 19},
        "do_rescale": True,
        "rescale_factor": 1 / 127,
        "do_normalize": True,
        "image_mean": (0.1, 0.2, 0.3),
        "image_std": (0.4, 0.5, 0.6),
    }
    taken = FoalNetVideoProcessor.from_image_processor(CLIPImageProcessorPil(**fields)).to_dict()
    assert {name: taken[name] for name in fields} == fields


@pytest.mark.parametrize("name", ["siglip", "vit"])
def test_what_the_image_processor_does_not_do_is_not_done(name: str) -> None:
    assert not FoalNetVideoProcessor.from_image_processor(IMAGE_PROCESSORS[name]).do_center_crop


def test_an_image_processor_that_does_more_than_its_fields_say_is_refused() -> None:
    # LeViT's resizes to 256/224 of its size, which no field says.
    with pytest.raises(ValueError, match="LevitImageProcessorPil does more to an image than its fields say"):
        FoalNetVideoProcessor.from_image_processor(LevitImageProcessorPil(do_center_crop=False))
    brighter = ViTImageProcessorPil()
    brighter.rescale = lambda image, *args, **kwargs: image / 255 + 0.02
    with pytest.raises(ValueError, match="ViTImageProcessorPil does more"):
        FoalNetVideoProcessor.from_image_processor(brighter)


VJEPA2_FILE = {  # its class needs torchvision
    "video_processor_type": "VJEPA2VideoProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 292},
    "resample": BILINEAR,
    "do_center_crop": True,
    "crop_size": 256,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def test_the_file_of_a_processor_stands_for_it() -> None:
    processor = FoalNetVideoProcessor.from_image_processor(VJEPA2_FILE, frames_per_second=7)
    assert (dict(processor.size), dict(processor.crop_size)) == ({"shortest_edge": 292}, {"height": 256, "width": 256})
    assert (processor.resample, processor.frames_per_second) == (BILINEAR, 7)
    same = BitImageProcessorPil(**{name: value for name, value in VJEPA2_FILE.items() if "type" not in name})
    expected = same([picture(431, 241)], return_tensors="pt")["pixel_values"]
    apart = (processor([picture(431, 241)])["pixel_values_videos"][0] - expected).abs()
    assert apart.mean() < 0.001 and apart.max() < 0.04
    with pytest.raises(ValueError, match="must have `do_resize`, `do_rescale`, `do_normalize`, and a dict"):
        FoalNetVideoProcessor.from_image_processor({"size": 224, "do_resize": True})


def test_the_evaluation_transform_of_timm_becomes_fields() -> None:
    data_config = {
        "input_size": (3, 224, 224),
        "interpolation": "bicubic",
        "crop_pct": 0.875,
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
    }
    timm = SimpleNamespace(to_dict=lambda: {"data_config": data_config, "architecture": "resnet18"})
    processor = FoalNetVideoProcessor.from_image_processor(timm)
    assert (dict(processor.size), dict(processor.crop_size)) == ({"shortest_edge": 256}, {"height": 224, "width": 224})
    assert (processor.resample, list(processor.image_mean)) == (BICUBIC, [0.1, 0.2, 0.3])
    assert processor.do_resize and processor.do_center_crop and processor.do_rescale and processor.do_normalize


@pytest.mark.parametrize("file", ["preprocessor_config.json", "video_preprocessor_config.json"])
def test_an_encoder_whose_processor_cannot_be_loaded_gives_the_fields_of_its_file(tmp_path: Path, file: str) -> None:
    fields = {"image_processor_type": "NeedsTorchvision"} if file == "preprocessor_config.json" else {}
    (tmp_path / file).write_text(json.dumps({**VJEPA2_FILE, **fields}))
    processor = FoalNetProcessor.from_encoders_pretrained(None, str(tmp_path), frames_per_second=7)
    assert processor.video_processor.to_dict()["crop_size"] == {"height": 256, "width": 256}
    (tmp_path / "nothing").mkdir()
    with pytest.raises((OSError, ValueError), match=r"preprocessor_config|image processor"):
        FoalNetProcessor.from_encoders_pretrained(None, str(tmp_path / "nothing"))


def test_a_step_that_an_image_processor_does_not_name_is_not_done() -> None:
    bare = SimpleNamespace(to_dict=lambda: {"do_rescale": None})
    processor = FoalNetVideoProcessor.from_image_processor(bare)
    assert not any(getattr(processor, f"do_{step}") for step in ("resize", "center_crop", "rescale", "normalize"))
    pixels = torch.from_numpy(picture(41, 31)[None]).movedim(-1, 1)
    assert processor(pixels)["pixel_values_videos"][0].equal(pixels.float())


def test_from_image_processor_names_a_mistyped_argument() -> None:
    with pytest.raises(TypeError, match=r"frame_per_second.*Expected some of frames_per_second"):
        FoalNetVideoProcessor.from_image_processor(tiny_image_processor(), frame_per_second=30)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"resample": 1}, "`resample` must be 0.* got 1"),
        ({"resample": "bicubic"}, "`resample` must be 0.* got 'bicubic'"),
        ({"size": {"longest_edge": 23}}, "`size` must have 'shortest_edge'.*longest_edge"),
        ({"frames_per_second": 0}, "`frames_per_second` must be above 0, got 0"),
        ({"max_seconds": -1.5}, "`max_seconds` must be above 0 or None, got -1.5"),
        ({"max_seconds": 0}, "`max_seconds` must be above 0 or None, got 0"),
    ],
)
def test_fields_without_sense_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoalNetVideoProcessor(**fields)


@pytest.mark.parametrize("max_seconds", [None, 2.5])
def test_settings_survive_saving(tmp_path: Path, max_seconds: float | None) -> None:
    processor = tiny_video_processor(frames_per_second=7, max_seconds=max_seconds, resample=BILINEAR)
    processor.save_pretrained(tmp_path)
    loaded = FoalNetVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.max_seconds == max_seconds


def test_a_loaded_max_seconds_can_be_lifted(tmp_path: Path) -> None:
    tiny_video_processor(max_seconds=2.5).save_pretrained(tmp_path)
    assert FoalNetVideoProcessor.from_pretrained(tmp_path, max_seconds=None).max_seconds is None


# Calls


def test_a_path_is_sampled_in_time(silent: Path) -> None:
    processor = tiny_video_processor(frames_per_second=3, max_seconds=1.4, do_normalize=False)
    batch = processor(str(silent))
    assert batch["pixel_values_videos"].shape == (1, 5, 3, PIXELS, PIXELS)
    shown = clock_seconds(batch["pixel_values_videos"][0] * 255)
    assert shown == pytest.approx([0, 1 / 3, 2 / 3, 1, 4 / 3], abs=1e-6)


def test_a_call_overrides_the_settings(silent: Path) -> None:
    processor = tiny_video_processor(frames_per_second=3, max_seconds=1.4)
    batch = processor(
        silent,
        frames_per_second=2,
        max_seconds=None,
        start_seconds=0.5,
        crop_box=(3, 5, 41, 43),
        size={"height": 17, "width": 19},
        do_center_crop=False,
        do_normalize=False,
    )
    assert batch["pixel_values_videos"].shape == (1, (CLOCK_SECONDS - 0.5) * 2, 3, 17, 19)
    shown = clock_seconds(batch["pixel_values_videos"][0] * 255)
    assert shown[:2] == pytest.approx([0.5, 1.0])
    assert processor.size["shortest_edge"] == PIXELS  # for this call only


def test_settings_that_every_processor_has_are_taken_and_change_what_they_can() -> None:
    frames = np.stack([picture(41, 31, seed) for seed in range(3)])
    expected = tiny_video_processor()(frames)["pixel_values_videos"]
    slow_and_short = tiny_video_processor(frames_per_second=0.5, max_seconds=0.5)
    assert (slow_and_short.frames_per_second, slow_and_short.max_seconds) == (0.5, 0.5)
    always = {"do_pad": False, "do_convert_rgb": False, "default_to_square": True}
    for settings in (always, {"return_tensors": "pt"}, {"data_format": "channels_first"}):
        assert tiny_video_processor()(frames, **settings)["pixel_values_videos"].equal(expected)
    chosen = tiny_video_processor(num_frames=2)(frames)["pixel_values_videos"]
    assert chosen.equal(expected[:, [0, 1]])


def test_every_unknown_argument_is_named_with_all_that_are_known() -> None:
    with pytest.raises(TypeError, match=r"^Unknown arguments: fbs, sise\. Expected some of fps, size\.$"):
        check_known({"sise": 9, "fbs": 3, "fps": 2}, ("fps", "size"))


def test_clips_are_padded_to_the_longest() -> None:
    short, long = (np.stack([picture(31, 29, seed) for seed in range(length)]) for length in (2, 5))
    processor = tiny_video_processor()
    batch = processor([short, long])
    assert batch["padding_mask_videos"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 1, 1]]
    assert not batch["pixel_values_videos"][0, 2:].any()
    for row, clip in enumerate((short, long)):
        alone = processor(clip)["pixel_values_videos"][0]
        torch.testing.assert_close(batch["pixel_values_videos"][row, : len(clip)], alone, atol=0, rtol=0)


def test_every_form_of_pictures_gives_the_same_frames() -> None:
    frames = np.stack([picture(31, 29, seed) for seed in range(3)])  # (frames, height, width, 3)
    images = [Image.fromarray(frame) for frame in frames]
    tensor = torch.from_numpy(frames)
    processor = tiny_video_processor()
    expected = processor(frames)["pixel_values_videos"]
    assert expected.shape == (1, 3, 3, PIXELS, PIXELS)
    for form in (
        images,
        [images],
        list(frames),
        frames.transpose(0, 3, 1, 2),
        tensor,
        tensor.movedim(-1, 1),
        frames[None],
        tensor.double() / 255,
    ):
        torch.testing.assert_close(processor(form)["pixel_values_videos"], expected, atol=0, rtol=0)


def test_frames_of_different_size_need_resizing() -> None:
    processor = tiny_video_processor(do_resize=False, do_center_crop=False)
    with pytest.raises(ValueError, match=r"have one size.*do_resize"):
        processor([picture(31, 29)[None], picture(29, 31)[None]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"videos": []}, ValueError, "at least one video"),
        ({"videos": [picture(31, 29)[None], None]}, ValueError, "no None"),
        ({"videos": picture(31, 29)[None], "return_tensors": "jax"}, ValueError, "must be 'pt' or 'np'"),
        (
            {"videos": picture(31, 29)[None], "num_frams": 3},
            TypeError,
            "num_frams.*Expected some of",
        ),
        ({"videos": "missing.mp4"}, MediaError, "missing.mp4: no such file"),
    ],
)
def test_calls_without_sense_say_why(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tiny_video_processor()(**arguments)


# Devices


@pytest.mark.parametrize("resample", [0, BILINEAR, BICUBIC])
def test_frames_never_leave_their_device(resample: int) -> None:
    processor = tiny_video_processor(resample=resample)
    batch = processor(torch.empty(5, 3, 31, 41, dtype=torch.uint8, device="meta"))
    assert {tensor.device.type for tensor in batch.values()} == {"meta"}  # one step on the CPU would raise
    assert batch["pixel_values_videos"].shape == (1, 5, 3, PIXELS, PIXELS)


@pytest.mark.gpu
@pytest.mark.parametrize("resample", [BILINEAR, BICUBIC])
def test_frames_on_a_gpu_stay_there_and_are_the_same(resample: int) -> None:
    need("cuda")
    frames = torch.from_numpy(np.stack([picture(101, 83, seed) for seed in range(3)]))
    processor = tiny_video_processor(resample=resample, do_normalize=False)
    batch = processor(frames.cuda())
    assert {tensor.device.type for tensor in batch.values()} == {"cuda"}
    apart = (batch["pixel_values_videos"].cpu() - processor(frames)["pixel_values_videos"]).abs() * 255
    # The CPU's kernel rounds to bytes between the two axes, the GPU's only at the end.
    assert apart.mean() < 0.5
