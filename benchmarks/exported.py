"""An exported checkpoint against the model in torch, on the CPU: `python benchmarks/exported.py`.

Both encoders of the inference path, on random weights in the shape of WavLM-large and CLIP ViT-L/14 with `--layers`
layers each. Every way runs in a process of its own, so that its peak memory is its own.

`--clips FOLDER` compares labels instead of times: of real recordings, by `--checkpoint` (the one that ships by default)
in torch and exported. With that checkpoint the labels say nothing about the people; they only have to be the same.
"""

import argparse
import contextlib
import importlib.util
import io
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from harness import arguments, compare, in_a_process, limits, peak_memory, save, seconds_of, target

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, FoalNetProcessor
from foal_hf.experiments.tiny import make_tiny_model, make_tiny_processor
from foal_hf.export import export_checkpoint
from foal_hf.export.exported import AUDIO_ENCODER, VISION_ENCODER, import_openvino, load_exported
from foal_hf.foal_net.audio_encoders_foal_net import run_audio_encoder
from foal_hf.registration import TINY_CHECKPOINT


class Way(NamedTuple):
    """A way to run a checkpoint.

    Attributes:
        format (`str`, *optional*): What it is exported for; torch runs it without.
        weights (`str`): How they are kept. `"int8"` is weights and activations, `"int8 weights"` only those.
        dtype (`str`): Precision of the encoders where nothing is in whole numbers.
        attention (`str`): In torch.
    """

    format: str | None = None
    weights: str = "float32"
    dtype: str = "float32"
    attention: str = "sdpa"


LAYERS = 4  # of 24: the memory of all of them is another run, with `--layers 24 --rounds 1`
EAGER = "torch float32, eager attention"
WAYS = {
    EAGER: Way(attention="eager"),
    "torch float32": Way(),
    "torch bfloat16 autocast": Way(dtype="bfloat16"),
    "openvino float32": Way("openvino"),
    "openvino bfloat16": Way("openvino", "float16", "bfloat16"),
    "openvino bfloat16, weights in int8": Way("openvino", "int8 weights", "bfloat16"),
    "openvino int8, the rest bfloat16": Way("openvino", "int8", "bfloat16"),
    "onnxruntime float32": Way("onnx"),
}
BEST = "openvino bfloat16"
QUANTIZED = "openvino int8, the rest bfloat16"


def main(argv: Sequence[str] | None = None) -> None:
    options = arguments(
        __doc__,
        argv,
        rounds=3,
        short={"rounds": 1, "batch_size": 1, "seconds": 3.0, "frames": 2, "ways": [BEST]},
        layers={"type": int, "default": LAYERS, "help": "of each encoder; 0 for the tiny model (%(default)s)"},
        batch_size={"type": int, "default": 2, "help": "(%(default)s)"},
        seconds={"type": float, "default": 6.0, "help": "of sound (%(default)s)"},
        frames={"type": int, "default": 4, "help": "of each clip (%(default)s)"},
        ways={"nargs": "+", "choices": list(WAYS), "default": list(WAYS), "help": "beside eager torch"},
        clips={"metavar": "FOLDER", "help": "compare the labels of these recordings instead"},
        checkpoint={"default": str(TINY_CHECKPOINT), "help": "whose labels; the tiny one that ships by default"},
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.clips:
            compare_labels(options, folder)
        else:
            compare_times(options, folder)


def compare_times(options: argparse.Namespace, folder: Path) -> None:
    save_checkpoint(folder / "checkpoint", options.layers)
    batch = make_batch(options)
    exports = folder / "exports"
    results: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys((EAGER, *options.ways)):
        if not prepare(WAYS[name], folder / "checkpoint", exports, [batch]):
            continue
        results[name], peak = in_a_process(measure, name, folder, options)
        results[name]["peak"] = peak
    base = results[EAGER]
    difference = {
        name: max(abs(a - b) for a, b in zip(result["logits"], base["logits"], strict=True))
        for name, result in results.items()
    }

    def row(name: str) -> list[Any]:
        if name not in results:
            return [name, *[None] * 8]
        result = results[name]
        sound, picture = result["times"].values()
        share = result["peak"] / base["peak"]
        return [
            name, sound, picture, both(base) / both(result), result["cpu"], result["peak"], share, result["load"],
            difference[name],
        ]  # fmt: skip

    columns = {
        "way": "",
        "audio encoder": "s",
        "image encoder": "s",
        "both, to eager": "x",
        "both, CPU time": "s",
        "peak memory": "B",
        "to eager": "%",
        "load and first answer": "s",
        "difference of logits": "",
    }
    best = limits()
    half = limits(dtype="bfloat16")
    fastest = min(results, key=lambda name: both(results[name]))
    targets = []
    for name in dict.fromkeys((BEST, fastest)):
        if name in results:
            targets += [
                target(f"{name}: both encoders, to eager float32", both(base) / both(results[name]), at_least=3.0),
                target(f"{name}: peak memory", results[name]["peak"] / base["peak"], at_most=0.6, unit="%"),
            ]
    save(
        "exported" if options.layers == LAYERS else f"exported_{options.layers}_layers",
        f"{options.batch_size} clips of {options.seconds:g} s and {options.frames} frames, "
        f"{options.layers or 2} layers of each encoder",
        columns,
        [row(name) for name in dict.fromkeys((EAGER, *options.ways))],
        [
            f"Of the memory, {base['imports'] / 1e6:.0f} MB are Python, torch and transformers, imported in every way.",
            f"A matrix product in bfloat16 is {half.flops_per_second / best.flops_per_second:.1f} times as fast as in "
            "float32 on this machine, which bounds what bfloat16 alone can give. Whole numbers of 8 bits have the "
            "instructions for twice that, and take a quarter of the memory for their weights; they come from NNCF, "
            "which is not a dependency, calibrated on the batch that is timed.",
        ],
        options=options,
        targets=targets,
        limits=best,
    )


def both(result: dict[str, Any]) -> float:
    """Seconds of the two encoders."""
    return sum(timing.median for timing in result["times"].values())


def measure(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Times and memory of one way, in this process."""
    imports = peak_memory()
    batch = make_batch(options)
    answer: list[Any] = []

    def load_and_answer() -> None:
        answer.append(load(WAYS[name], folder / "checkpoint", folder / "exports"))
        answer.append(run(answer[0], WAYS[name], batch))

    seconds = seconds_of(load_and_answer)
    model, logits = answer
    started = time.process_time()
    times = compare(encoders_of(model, WAYS[name], batch), options.rounds)
    # Other work on the machine hardly lengthens it. One round more was run than was timed.
    cpu = (time.process_time() - started) / (options.rounds + 1)
    return {"times": times, "cpu": cpu, "load": seconds, "imports": imports, "logits": logits.flatten().tolist()}


def run(model: Any, way: Way, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits of the whole inference path."""
    with inference(way):
        return model(**batch).logits.float()


def encoders_of(model: Any, way: Way, batch: dict[str, torch.Tensor]) -> dict[str, Callable[[], object]]:
    """What encodes the sound, and what the pictures."""
    sound = batch["input_values"], batch["attention_mask"]
    pictures = batch["pixel_values_videos"]
    if way.format:
        mask = torch.ones(pictures.shape[:2], dtype=torch.bool)
        calls = (lambda: model._encode_audio(*sound)), (lambda: model._encode_video(pictures, mask))
    else:
        inner = model.foal_net
        calls = (
            (lambda: run_audio_encoder(inner.audio_encoder, model.config, *sound)),
            (lambda: inner.encode_video(pictures)),
        )

    def quietly(call: Callable[[], object]) -> Callable[[], object]:
        def encode() -> object:
            with inference(way):
                return call()

        return encode

    return dict(zip(("sound", "picture"), map(quietly, calls), strict=True))


@contextlib.contextmanager
def inference(way: Way) -> Any:
    half = way.format is None and way.dtype == "bfloat16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
        yield


def save_checkpoint(folder: Path, layers: int) -> None:
    """The published shapes with fewer layers, and random weights."""
    torch.manual_seed(0)
    if layers:
        config = FoalNetConfig()
        config.audio_config.num_hidden_layers = config.vision_config.num_hidden_layers = layers
        model = FoalNetForEmotionClassification(config)
    else:
        model = make_tiny_model()
    model.save_pretrained(folder)
    make_tiny_processor().save_pretrained(folder)  # a part of every checkpoint; not used here


def make_batch(options: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Noise; the last clip is three quarters as long as the others."""
    generator = torch.Generator().manual_seed(0)
    samples, size = round(options.seconds * 16_000), 224 if options.layers else 48
    batch = {
        "input_values": torch.randn(options.batch_size, samples, generator=generator),
        "attention_mask": torch.ones(options.batch_size, samples, dtype=torch.long),
        "pixel_values_videos": torch.randn(options.batch_size, options.frames, 3, size, size, generator=generator),
    }
    batch["attention_mask"][-1, samples * 3 // 4 :] = 0
    return batch


def place_of(way: Way, exports: Path) -> Path:
    return exports / f"{way.format} {way.weights}"


def prepare(way: Way, checkpoint: str | Path, exports: Path, batches: list[dict[str, torch.Tensor]]) -> bool:
    """Export for a way; False where something that it needs is not installed."""
    needed = {None: (), "openvino": ("openvino",), "onnx": ("onnxscript", "onnxruntime")}[way.format]
    needed += ("nncf",) if "int8" in way.weights else ()
    if any(importlib.util.find_spec(package) is None for package in needed):
        return False
    place = place_of(way, exports)
    if way.format is None or place.exists():
        return True
    if "int8" in way.weights:
        plain = place_of(Way("openvino"), exports)
        if not plain.exists():
            export_checkpoint(checkpoint, plain, format="openvino")
        quantize(plain, place, batches, only_weights=way.weights != "int8")
    else:
        export_checkpoint(checkpoint, place, format=way.format, dtype=way.weights)
    return True


def quantize(plain: Path, place: Path, batches: list[dict[str, torch.Tensor]], *, only_weights: bool) -> None:
    """A copy of an export for OpenVINO with both encoders in whole numbers."""
    openvino = import_openvino()
    shutil.copytree(plain, place)
    samples = {
        AUDIO_ENCODER: [
            {name: batch[name].numpy() for name in ("input_values", "attention_mask")} for batch in batches
        ],
        VISION_ENCODER: [{"pixel_values": batch["pixel_values_videos"].flatten(0, 1).numpy()} for batch in batches],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        import nncf

        logging.getLogger("nncf").setLevel(logging.ERROR)
        for name, examples in samples.items():
            graph = openvino.Core().read_model(plain / f"{name}.xml")
            if only_weights:
                graph = nncf.compress_weights(graph, mode=nncf.CompressWeightsMode.INT8_SYM)
            else:
                graph = nncf.quantize(
                    graph,
                    nncf.Dataset(examples),
                    subset_size=len(examples),
                    model_type=nncf.ModelType.TRANSFORMER,
                    preset=nncf.QuantizationPreset.MIXED,
                    ignored_scope=nncf.IgnoredScope(types=["Convolution", "GroupConvolution"], validate=False),
                )
            openvino.save_model(graph, place / f"{name}.xml")


def load(way: Way, checkpoint: str | Path, exports: Path) -> Any:
    if way.format is None:
        return FoalNetForEmotionClassification.from_pretrained(checkpoint, attn_implementation=way.attention).eval()
    return load_exported(place_of(way, exports), dtype=way.dtype)


def compare_labels(options: argparse.Namespace, folder: Path) -> None:
    """Of recordings, with both modalities and with either; each is read once."""
    processor = FoalNetProcessor.from_pretrained(options.checkpoint)
    files = sorted(Path(options.clips).glob("*.mp4"))[:: 20 if options.short else 1]
    if not files:
        raise SystemExit(f"{options.clips} holds no .mp4 files.")
    batches: dict[str, list[dict[str, torch.Tensor]]] = {}
    for modality, sides in {"both": ("audio", "video"), "audio": ("audio",), "video": ("video",)}.items():
        clips = [processor.read(file, modalities=sides) for file in files]
        batches[modality] = [dict(processor.batch(clips[first : first + 8])) for first in range(0, len(clips), 8)]
    rows, wanted = [], {}
    for name in dict.fromkeys((EAGER, *options.ways)):
        way = WAYS[name]
        if not prepare(way, options.checkpoint, folder, batches["both"][::8]):
            rows.append([name, "both", *[None] * 4])
            continue
        model = load(way, options.checkpoint, folder)
        for modality, each in batches.items():
            logits = torch.cat([run(model, way, batch) for batch in each])
            expected = wanted.setdefault(modality, logits)
            same = int((logits.argmax(-1) == expected.argmax(-1)).sum())
            scores = (logits.softmax(-1) - expected.softmax(-1)).abs().max().item()
            rows.append(
                [name, modality, same, same / len(files), scores, (logits - expected).abs().max().item()]
            )  # fmt: skip
    checkpoint = "the checkpoint that ships" if Path(options.checkpoint) == TINY_CHECKPOINT else "a checkpoint"
    save(
        "exported_labels",
        f"Labels of {len(files)} real clips by {checkpoint}",
        {
            "way": "",
            "modality": "",
            "same label": "",
            "share": "%",
            "largest difference of a score": "",
            "of a logit": "",
        },
        rows,
        ["Whole numbers of 8 bits are calibrated on every eighth batch of these clips."],
        options=options,
    )


if __name__ == "__main__":
    main()
