"""Export a checkpoint to graphs that OpenVINO or onnxruntime run on CPUs, faster than torch.

One graph each for the audio encoder, the image encoder, and fusion with the heads; batch and lengths are dynamic. Their
results are compared with those of the checkpoint before the export is written. `foal_hf.export.exported` runs them.
"""

import contextlib
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import CONFIG_NAME
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from ..checkpoint_errors import errors_naming_checkpoint
from ..default_checkpoint import resolve_checkpoint
from ..foal_net.audio_traits_foal_net import call_encoder
from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetForEmotionClassification
from ..foal_net.processing_foal_net import FoalNetProcessor
from ..foal_net.vision_encoders_foal_net import encode_frames
from .exported import (
    AUDIO_ENCODER,
    FUSION,
    SUFFIXES,
    VISION_ENCODER,
    import_openvino,
    load_exported,
    takes_audio_mask,
)


# ONNX graphs have no attention operator. The exporter's decomposition of torch's fails where code relies on the memory
# layout of the result, which differs between kernels.
_ATTENTION = {"openvino": None, "onnx": "eager"}  # None: torch's, where an encoder has it
# Largest difference of logits and embeddings from the checkpoint's, by the precision of the weights.
_TOLERANCES = {"float32": 1e-4, "float16": 2e-2}


@dataclass(frozen=True)
class Export:
    """The result of an export.

    Args:
        folder (`pathlib.Path`): Folder with graphs, config and processor.
        format (`str`): `"openvino"` or `"onnx"`.
        num_bytes (`int`): Size of the graphs with their weights.
        max_difference (`float`): Largest difference of logits and embeddings from the checkpoint's, on random inputs.
    """

    folder: Path
    format: str
    num_bytes: int
    max_difference: float


def export_checkpoint(
    checkpoint: str | os.PathLike[str],
    output_dir: str | os.PathLike[str],
    *,
    format: str = "openvino",
    dtype: str = "float32",
) -> Export:
    """Export a checkpoint to graphs, with its config and processor.

    Args:
        checkpoint (`str` or `os.PathLike`): Folder or Hub name of a Foal-Net with its processor.
        output_dir (`str` or `os.PathLike`): Folder for the export; files of an earlier one of this format are replaced.
        format (`"openvino"` or `"onnx"`, defaults to `"openvino"`): Format of the graphs.
        dtype (`"float32"` or `"float16"`, defaults to `"float32"`): Precision of the stored weights. `"float16"`, for
            OpenVINO only, halves the files and the memory; use it together with computing in bfloat16.

    Returns:
        [`Export`]

    Raises:
        FileExistsError: If the folder holds an export of the other format.
        ImportError: If a package that writes the format is missing.
        RuntimeError: If the results of the graphs differ from the checkpoint's.
        ValueError: If an argument is none of the values above, or the checkpoint takes features instead of an encoder,
            or has an audio encoder that cannot be exported.

    Example:

    ```python
    >>> from foal_hf.export import export_checkpoint

    >>> export_checkpoint("org/foal-net", "outputs/foal-net-openvino").max_difference < 1e-4
    True
    ```
    """
    output = Path(output_dir)
    _check_arguments(output, format, dtype)
    write = _openvino_writer(dtype) if format == "openvino" else _onnx_writer()
    checkpoint = resolve_checkpoint(checkpoint)
    with errors_naming_checkpoint(checkpoint):
        config = FoalNetConfig.from_pretrained(checkpoint)
    _check_encoders(config, checkpoint)
    with errors_naming_checkpoint(checkpoint):
        model = FoalNetForEmotionClassification.from_pretrained(
            checkpoint, dtype=torch.float32, attn_implementation=_ATTENTION[format]
        ).eval()
        processor = FoalNetProcessor.from_pretrained(checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    # Written to a temporary folder and then moved: an export that fails leaves no mixture of two exports behind.
    with tempfile.TemporaryDirectory(dir=output) as folder:
        written = Path(folder)
        for name, (module, inputs, outputs) in _parts(model).items():
            graph = written / f"{name}{SUFFIXES[format]}"
            if name == AUDIO_ENCODER:
                with _errors_naming_audio(config, checkpoint, format):
                    write(_trace(module, inputs, _audio_shapes(config)), graph, list(inputs), outputs)
            else:
                write(_trace(module, inputs), graph, list(inputs), outputs)
        # Not by `save_pretrained`, which also writes the code: an export does not load by code from the Hub.
        model.config.to_json_file(written / CONFIG_NAME)
        processor.to_json_file(written / "processor_config.json")
        difference = _compare(model, written)
        if difference > _TOLERANCES[dtype]:
            raise RuntimeError(
                f"The results of the exported graphs differ from those of {checkpoint} by {difference:.1e}; expected "
                f"at most {_TOLERANCES[dtype]:.0e}. Nothing was written; please report the versions of torch and "
                f"{format}."
            )
        graphs = [file for file in written.iterdir() if file.suffix != ".json"]
        num_bytes = sum(file.stat().st_size for file in graphs)
        for file in written.iterdir():
            os.replace(file, output / file.name)
    return Export(output, format, num_bytes, difference)


class _AudioEncoder(nn.Module):
    def __init__(self, model: FoalNetForEmotionClassification) -> None:
        super().__init__()
        config: Any = model.config
        self.time_dim = config.audio_traits.time_dim
        self.layer_range = config.audio_layer_range
        self.encoder = model.foal_net.audio_encoder
        self.layer_weights = model.foal_net.audio_layer_weights
        if self.layer_weights is not None:  # before the encoder does, which would give each layer twice
            maybe_install_capturing_hooks(model.foal_net)

    def forward(self, input_values: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """One call of the encoder, for clips that `run_audio_encoder` brings to one length or gives a mask."""
        given: dict[str, Any] = {} if attention_mask is None else {"attention_mask": attention_mask}
        if self.layer_weights is None:
            return call_encoder(self.encoder, input_values, self.time_dim, **given).last_hidden_state
        output = call_encoder(self.encoder, input_values, self.time_dim, output_hidden_states=True, **given)
        first, last = self.layer_range
        states, weights = output.hidden_states[first : last + 1], self.layer_weights.softmax(dim=0)
        return torch.stack([weight * layer for weight, layer in zip(weights, states, strict=True)]).sum(dim=0)


class _VisionEncoder(nn.Module):
    def __init__(self, model: FoalNetForEmotionClassification) -> None:
        super().__init__()
        self.config = model.config
        self.encoder = model.foal_net.vision_encoder

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        interface = self.config.vision_interface
        if interface.window_frames > 1:
            windows: Any = encode_frames(self.encoder, interface, pixel_values)
            return windows.last_hidden_state  # (windows, positions, video_width)
        output: Any = encode_frames(self.encoder, interface, pixel_values[:, None])
        return output.last_hidden_state[:, 0]  # (frames, video_width)


class _Fusion(nn.Module):
    """The part of [`FoalNetForEmotionClassification`] behind the encoders, in evaluation."""

    def __init__(self, model: FoalNetForEmotionClassification) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, audio: torch.Tensor, audio_mask: torch.Tensor, video: torch.Tensor, video_mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        foal_net = self.model.foal_net
        audio = audio.masked_fill(~audio_mask[..., None], 0.0)
        video = video.masked_fill(~video_mask[..., None], 0.0)
        fused = foal_net.fusion(audio, audio_mask, video, video_mask)
        return (
            self.model.classifier(torch.cat(fused, dim=-1)),  # audio first
            foal_net.align(audio, audio_mask, foal_net.audio_projection),
            foal_net.align(video, video_mask, foal_net.video_projection),
        )


def _parts(model: FoalNetForEmotionClassification) -> dict[str, tuple[nn.Module, dict[str, torch.Tensor], list[str]]]:
    """For each graph its module, an example of its inputs and the names of its outputs.

    No two independent sizes are equal and none is 1: tracing would treat them as the same size, or as fixed.
    """
    config: Any = model.config
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def mask(rows: int, positions: int, dtype: torch.dtype) -> torch.Tensor:
        valid = torch.ones(rows, positions, dtype=dtype)
        valid[-1, positions // 2 :] = 0
        return valid

    shape = list(config.audio_traits.example_shape)
    shape[0], shape[config.audio_traits.time_dim] = 3, _audio_length(config)
    audio = {"input_values": noise(*shape)}
    if takes_audio_mask(config):
        audio["attention_mask"] = mask(3, _audio_length(config), torch.long)
    vision = config.vision_interface
    window = () if vision.window_frames == 1 else (vision.window_frames,)
    frames = {"pixel_values": noise(2, *window, 3, *vision.image_size)}
    sequences = {
        "audio": noise(3, 11, config.audio_width),
        "audio_mask": mask(3, 11, torch.bool),
        "video": noise(3, 7, config.video_width),
        "video_mask": mask(3, 7, torch.bool),
    }
    return {
        AUDIO_ENCODER: (_AudioEncoder(model), audio, ["audio"]),
        VISION_ENCODER: (_VisionEncoder(model), frames, ["video"]),
        FUSION: (_Fusion(model), sequences, ["logits", "audio_embeds", "video_embeds"]),
    }


def _audio_length(config: Any) -> int:
    """Input steps of the example: the window of an encoder that must be given it, else enough for some positions."""
    traits = config.audio_traits
    if traits.is_fixed:
        return traits.example_shape[traits.time_dim]
    length = (20 * traits.min_length // traits.multiple + 1) * traits.multiple
    return min(length, traits.window or length)


def _audio_shapes(config: Any) -> dict[str, set[int]]:
    """Which dimensions of the audio encoder's inputs may have any size."""
    traits = config.audio_traits
    fills_window = traits.is_fixed and traits.window is not None
    shapes = {"input_values": {0} if fills_window else {0, traits.time_dim}}
    return {**shapes, "attention_mask": {0, 1}} if takes_audio_mask(config) else shapes


def _trace(
    module: nn.Module, inputs: dict[str, torch.Tensor], dims: dict[str, set[int]] | None = None
) -> torch.export.ExportedProgram:
    """Trace a module to a graph for any number of clips, positions and frames."""
    dims = dims or {name: {0} if name == "pixel_values" else {0, 1} for name in inputs}
    shapes = {name: dict.fromkeys(dims[name], torch.export.Dim.DYNAMIC) for name in inputs}
    with torch.no_grad(), _quiet():
        return torch.export.export(module.eval(), (), inputs, dynamic_shapes=shapes, strict=False)


def _openvino_writer(dtype: str) -> Any:
    openvino = import_openvino()

    def write(program: torch.export.ExportedProgram, path: Path, inputs: list[str], outputs: list[str]) -> None:
        with _quiet():
            graph = openvino.convert_model(program)
        for ports, names in ((graph.inputs, inputs), (graph.outputs, outputs)):
            for port, name in zip(ports, names, strict=True):
                port.get_tensor().set_names({name})
        openvino.save_model(graph, path, compress_to_fp16=dtype == "float16")

    return write


def _onnx_writer() -> Any:
    try:
        import onnxscript  # noqa: F401 (torch imports it when it exports)
    except ImportError as error:
        raise ImportError("onnx and onnxscript are not installed: pip install 'foal-hf[onnx]'.") from error

    def write(program: torch.export.ExportedProgram, path: Path, inputs: list[str], outputs: list[str]) -> None:
        with _quiet():
            graph: Any = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=inputs, output_names=outputs
            )
        for node in graph.model.graph.all_nodes():
            node.metadata_props.clear()  # source paths on this machine
        graph.save(path, external_data=True)  # weights in their own file: an ONNX file holds at most 2 GB

    return write


def _compare(model: FoalNetForEmotionClassification, folder: Path) -> float:
    """The largest difference of the export from the model, over a batch with padding and missing video."""
    parts = _parts(model)
    frames = parts[VISION_ENCODER][1]["pixel_values"]
    traits, length = model.config.audio_traits, _audio_length(model.config)
    valid = torch.full((3,), length)
    valid[-1] = max(length // 2 // traits.multiple, 1) * traits.multiple
    batch = {
        traits.input_name: parts[AUDIO_ENCODER][1]["input_values"],
        "attention_mask": (torch.arange(length) < valid[:, None]).long(),
    }
    window = model.config.vision_interface.window_frames
    windows = frames[[0, 1, 0, 1, 1, 0]].unflatten(0, (3, 2))
    batch["pixel_values_videos"] = windows if window == 1 else windows.flatten(1, 2)
    batch["padding_mask_videos"] = torch.tensor([[1, 1], [0, 0], [1, 0]]).repeat_interleave(window, dim=1)
    with torch.no_grad(), _quiet():
        expected, got = model(**batch), load_exported(folder)(**batch)
    names = ("logits", "audio_embeds", "video_embeds")
    return max(float((expected[name] - got[name]).abs().max()) for name in names)


def _check_encoders(config: Any, checkpoint: Any) -> None:
    """Raise `ValueError` where an encoder is missing, or is known to have no graph for audio of any length."""
    if config.audio_config is None or config.vision_config is None:
        raise ValueError(
            f"{checkpoint} has no {'audio' if config.audio_config is None else 'image'} encoder: it takes stored "
            "features. An export speeds up the encoders, and needs both; run this checkpoint in torch."
        )
    if hasattr(config.audio_config, "squeeze_factor"):
        raise ValueError(
            f"{checkpoint} cannot be exported: its `audio_config` is of type {config.audio_config.model_type!r}, whose "
            "joined positions the converters do not take. Run this checkpoint in torch."
        )


@contextlib.contextmanager
def _errors_naming_audio(config: Any, checkpoint: Any, format: str) -> Iterator[None]:
    """Raise what the exporters raise for an audio encoder as `ValueError` that says which encoder it is."""
    try:
        yield
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(
            f"{checkpoint} cannot be exported: its `audio_config` is of type {config.audio_config.model_type!r}, which "
            f"has no graph for {format} ({reason}). Try the other format, or run this checkpoint in torch."
        ) from error


def _check_arguments(output: Path, format: str, dtype: str) -> None:
    if format not in SUFFIXES:
        raise ValueError(f"Unknown `format` {format!r}; expected one of {', '.join(SUFFIXES)}.")
    if dtype not in _TOLERANCES:
        raise ValueError(f"Unknown `dtype` {dtype!r}; expected one of {', '.join(_TOLERANCES)}.")
    if format == "onnx" and dtype != "float32":
        raise ValueError(
            f"`dtype` is {dtype!r}; expected 'float32' for onnx: onnxruntime computes in float32 on CPUs. Use "
            "`format='openvino'` for weights in float16."
        )
    others = [name for name, suffix in SUFFIXES.items() if name != format and (output / f"{FUSION}{suffix}").exists()]
    if others:
        raise FileExistsError(f"{output} holds an export for {others[0]} with its own config. Choose another folder.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings about their own code, which a user cannot act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


__all__ = ["Export", "export_checkpoint"]
