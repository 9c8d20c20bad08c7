"""What finding and following faces costs: `python benchmarks/faces.py`.

A clip of a real face that moves, the photograph that scikit-image ships, goes through what the pipeline does beside
decoding: cuts, the detector, the tracks and the crops. It is compared with the encoders that see the crops: those of
the default checkpoint (of the tiny one, where that is not installed), and CLIP ViT-L/14 with WavLM-large, whose weights
are random.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import Timing, arguments, compare, save, target
from workload import DEFAULT_FRAMES_PER_SECOND, SAMPLING_RATE, make_model

from foal_hf import TINY_CHECKPOINT, FoalNetForEmotionClassification, FoalNetProcessor, FoalNetVideoProcessor
from foal_hf.default_checkpoint import DISTRIBUTION, installed_checkpoint
from foal_hf.faces import CenterFace, FaceCrops


SIZES = {"256x256": (256, 256), "1280x720": (720, 1280), "3840x2160": (2160, 3840)}
SPEED = 0.05  # of the free width, each second
FACE_TO_ALL = 0.47  # of the height of a frame that the cut-out of the photograph takes


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        short={"layers": 1, "width": 128, "seconds": 1.0, "rounds": 2},
        rounds=3,
        layers={"type": int, "default": 24, "help": "of CLIP ViT-L/14 and of WavLM-large (%(default)s)"},
        width={"type": int, "default": 1024, "help": "of these encoders (%(default)s)"},
        seconds={"type": float, "default": 4.0, "help": "of the clip (%(default)s)"},
    )
    crops = FaceCrops(FoalNetVideoProcessor(crop="face").resize_and_crop, detector=Counting())
    clips = {name: moving_face(*size, options.seconds) for name, size in SIZES.items()}
    folder = installed_checkpoint()
    ways: dict[str, Any] = {
        f"faces, {name}": lambda frames=frames: watch(crops, frames) for name, frames in clips.items()
    }
    default = f"{DISTRIBUTION if folder else 'the tiny checkpoint'}, its encoders"
    large = f"CLIP ViT-L/14 and WavLM-large, {options.layers} layers"
    ways[default] = encoders_of_checkpoint(Path(folder or TINY_CHECKPOINT), options)
    ways[large] = encoders(make_model(options.layers, vision_layers=options.layers, width=options.width), 224, options)
    timings = compare(ways, options.rounds)
    rows = []
    for name, timing in timings.items():
        shares = [timing.median / timings[other].median for other in (default, large)]
        frames = clips.get(name.removeprefix("faces, "))
        rows.append((name, "" if frames is None else looks(crops, frames), timing, *shares))
    by_default = ratio(timings, f"faces, {next(iter(SIZES))}", default) if folder else None
    save(
        "faces",
        "Finding and following faces",
        {"way": "", "looks of the detector": "", "a clip": "s", "of the default": "%", "of the large": "%"},
        rows,
        [
            f"A clip of {options.seconds:g} s, {DEFAULT_FRAMES_PER_SECOND:g} frames a second, without decoding, in "
            "which the face moves: the detector sees frames of at most 640 pixels, and known faces in smaller ones. A "
            "picture that does not change is not looked at again for two seconds.",
        ],
        options=options,
        targets=[
            target("Faces by the default checkpoint", by_default, at_most=0.4, unit="%"),
            target("Faces by CLIP ViT-L/14", ratio(timings, "faces, 1280x720", large), at_most=0.1, unit="%"),
        ],
    )


class Counting(CenterFace):
    """The detector, which counts what it sees."""

    def __init__(self) -> None:
        self.num_frames = 0

    def __call__(self, frames: torch.Tensor) -> Any:
        self.num_frames += len(frames)
        return super().__call__(frames)


def moving_face(height: int, width: int, seconds: float) -> torch.Tensor:
    """Frames `(n, 3, height, width)` in which the head of the photograph goes from left to right."""
    from skimage.data import astronaut

    head = torch.from_numpy(astronaut()[:256, 100:356]).movedim(-1, 0)[None]
    side = round(FACE_TO_ALL * height)
    head = F.interpolate(head, (side, side), mode="bilinear", antialias=True)[0]
    num_frames = round(seconds * DEFAULT_FRAMES_PER_SECOND)
    frames = torch.linspace(90, 160, width).expand(num_frames, 3, height, width).to(torch.uint8).clone()
    for index, frame in enumerate(frames):
        left, top = round(index * SPEED / DEFAULT_FRAMES_PER_SECOND * (width - side)), (height - side) // 3
        frame[:, top : top + side, left : left + side] = head
    return frames


def watch(crops: FaceCrops, frames: torch.Tensor) -> list[Any]:
    found = crops.watch()(frames, [index / DEFAULT_FRAMES_PER_SECOND for index in range(len(frames))])
    assert all(len(faces) == 1 for faces in found)
    return found


def looks(crops: FaceCrops, frames: torch.Tensor) -> int:
    crops.detector.num_frames = 0  # type: ignore[attr-defined]
    watch(crops, frames)
    return crops.detector.num_frames  # type: ignore[attr-defined]


def encoders_of_checkpoint(folder: Path, options: Any) -> Any:
    model = FoalNetForEmotionClassification.from_pretrained(folder)
    video_processor = FoalNetProcessor.from_pretrained(folder).video_processor
    size = video_processor.crop_size if video_processor.do_center_crop else video_processor.size
    return encoders(model, size.get("height") or size["shortest_edge"], options)


def encoders(model: Any, pixels: int, options: Any) -> Any:
    model = model.eval().to(options.device)
    num_frames = round(options.seconds * DEFAULT_FRAMES_PER_SECOND)
    inputs = {
        "input_values": torch.randn(1, round(options.seconds * SAMPLING_RATE)),
        "pixel_values_videos": torch.randn(1, num_frames, 3, pixels, pixels),
    }

    def run() -> None:
        with torch.inference_mode():
            model(**{name: value.to(options.device) for name, value in inputs.items()})

    return run


def ratio(timings: dict[str, Timing], one: str, other: str) -> float:
    return timings[one].median / timings[other].median


if __name__ == "__main__":
    main()
