"""Run an exported checkpoint on CPUs with OpenVINO or onnxruntime; the pipeline uses it like the model.

Three graphs, each opened when it is first needed: `audio_encoder`, `vision_encoder`, and `fusion` with the heads. Clips
without video (or audio) never open the encoder of the absent modality, and the image encoder never sees padding.

Shapes: `batch` clips; `samples` of 16 kHz audio; `frames` of video. Masks are 1 or True for audio and video, 0 or False
for padding.
"""

import functools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from ..foal_net.audio_encoders_foal_net import make_audio_encoder, run_audio_encoder
from ..foal_net.audio_traits_foal_net import check_length, num_positions
from ..foal_net.configuration_foal_net import FoalNetConfig
from ..foal_net.modeling_foal_net import FoalNetClassifierOutput
from ..foal_net.vision_encoders_foal_net import encode_frames, position_mask


AUDIO_ENCODER, VISION_ENCODER, FUSION = "audio_encoder", "vision_encoder", "fusion"
SUFFIXES = {"openvino": ".xml", "onnx": ".onnx"}
"""The suffix of a graph's file, by backend."""

Graph = Callable[..., list[torch.Tensor]]


class ExportedFoalNet:
    """A Foal-Net in graphs, with the inputs and results of [`FoalNetForEmotionClassification`] in evaluation.

    It accepts the same inputs, masks and missing modalities included, and runs on the CPU. It cannot be trained, moved
    or saved. Made by [`load_exported`].

    Args:
        folder (`pathlib.Path`): Folder of the graphs and the config.
        config (`FoalNetConfig`): Config of the checkpoint.
        backend (`"openvino"` or `"onnx"`): The runtime.
        open_graph (`Callable`): Opens a graph by its name, and whether it may compute in half precision; returns a
            function from tensors to tensors.
    """

    main_input_name = "input_values"
    input_modalities = ["audio", "video"]

    def __init__(
        self, folder: Path, config: FoalNetConfig, backend: str, open_graph: Callable[[str, bool], Graph]
    ) -> None:
        self.folder = folder
        self.config = config
        self.backend = backend
        self._open_graph = open_graph

    @property
    def device(self) -> torch.device:
        """Always the CPU."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Precision of inputs and outputs, whatever it is inside."""
        return torch.float32

    def can_generate(self) -> bool:
        """False; the pipelines of transformers ask."""
        return False

    @torch.no_grad()
    def __call__(
        self,
        input_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        pixel_values_videos: torch.Tensor | None = None,
        padding_mask_videos: torch.Tensor | None = None,
        video_features: torch.Tensor | None = None,
        audio_features: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
    ) -> FoalNetClassifierOutput:
        """Classify the emotion of each clip.

        Args:
            input_values, attention_mask, pixel_values_videos, padding_mask_videos, video_features, audio_features,
                input_features: As in [`FoalNetModel.forward`].

        Returns:
            [`FoalNetClassifierOutput`] with `logits`, `audio_embeds`, `video_embeds`, `audio_mask` and `video_mask`.

        Raises:
            ValueError: If audio and video are both missing, in the batch or in one of its clips.
        """
        audio_input = video_input = None
        if audio_features is not None:
            audio_input = audio_features.to(self.dtype), _mask_or_ones(attention_mask, audio_features)
        elif input_values is not None or input_features is not None:
            raw: Any = input_values if input_features is None else input_features
            audio_input = self._encode_audio(raw, attention_mask)
        if video_features is not None:
            video_input = video_features.to(self.dtype), _mask_or_ones(padding_mask_videos, video_features)
        elif pixel_values_videos is not None:
            video_input = self._encode_video(pixel_values_videos, padding_mask_videos)
        present = audio_input or video_input
        if present is None:
            raise ValueError(
                f"No input: give `{self.config.audio_input_name}`, `pixel_values_videos` or `video_features`."
            )
        # A missing modality is one position that is False in every clip.
        audio, audio_mask = audio_input or _absent(len(present[1]), self.config.audio_width)
        video, video_mask = video_input or _absent(len(present[1]), self.config.video_width)
        if len(audio) != len(video):
            raise ValueError(f"Audio of {len(audio)} clips and video of {len(video)}: both must hold the same clips.")
        is_empty = ~(audio_mask.any(dim=1) | video_mask.any(dim=1))
        if is_empty.any():
            raise ValueError(
                f"Clips {is_empty.nonzero().flatten().tolist()} of the batch (counted from 0) have neither audio nor "
                "video; remove them from the batch."
            )
        logits, audio_embeds, video_embeds = self._fusion(audio, audio_mask, video, video_mask)
        return FoalNetClassifierOutput(
            logits=logits,
            audio_embeds=audio_embeds,
            video_embeds=video_embeds,
            audio_mask=audio_mask.long(),
            video_mask=video_mask.long(),
        )

    def _encode_audio(
        self, inputs: torch.Tensor, attention_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        output, mask = run_audio_encoder(self._audio_encoder, self.config, inputs, attention_mask)
        return output["last_hidden_state"], mask

    def _encode_video(
        self, frames: torch.Tensor, padding_mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        mask = _mask_or_ones(padding_mask, frames)
        vision = self.config.vision_interface
        # The graph pools, so that nothing of the encoder's tokens is left to do.
        pooled = replace(vision, pooling="pooler", num_class_tokens=0, time_first=True, call={})
        encoded: Any = encode_frames(self._vision_encoder, pooled, frames, mask)
        return encoded.last_hidden_state, position_mask(mask, vision)

    @functools.cached_property
    def _audio_encoder(self) -> Any:
        """An encoder for `run_audio_encoder`: it computes lengths and calls the graph."""
        return _GraphAudioEncoder(self._open_graph(AUDIO_ENCODER, True), self.config)

    @functools.cached_property
    def _vision_encoder(self) -> Any:
        """An encoder for `encode_frames`: it calls the graph."""
        return _GraphEncoder(self._open_graph(VISION_ENCODER, True))

    @functools.cached_property
    def _fusion(self) -> Graph:
        # Never in half precision: it is cheap beside the encoders, and its errors go into the result directly.
        return self._open_graph(FUSION, False)


class _GraphAudioEncoder(torch.nn.Module):
    dtype = torch.float32

    def __init__(self, run: Graph, config: FoalNetConfig) -> None:
        super().__init__()
        self.config = config.audio_config
        self._run, self._traits, self._takes_mask = run, config.audio_traits, takes_audio_mask(config)
        with torch.device("meta"):
            encoder: Any = make_audio_encoder(config)
        self._get_feat_extract_output_lengths = functools.partial(num_positions, encoder)
        self.eval()

    def forward(self, inputs: torch.Tensor, attention_mask: torch.Tensor | None = None) -> BaseModelOutput:
        traits = self._traits
        if traits.window is not None:
            check_length(inputs.shape[traits.time_dim], traits.multiple, traits.window)
        if self._takes_mask and attention_mask is None:
            attention_mask = torch.ones(len(inputs), inputs.shape[traits.time_dim], dtype=torch.long)
        (sequence,) = self._run(inputs, attention_mask) if self._takes_mask else self._run(inputs)
        return BaseModelOutput(last_hidden_state=sequence)


class _GraphEncoder(torch.nn.Module):
    dtype = torch.float32

    def __init__(self, run: Graph) -> None:
        super().__init__()
        self._run = run

    def forward(self, pixel_values: torch.Tensor) -> BaseModelOutputWithPooling:
        (vectors,) = self._run(pixel_values)
        return BaseModelOutputWithPooling(last_hidden_state=vectors, pooler_output=vectors)


def takes_audio_mask(config: Any) -> bool:
    """Whether the graph of the audio encoder takes a mask: where it is of use, and of all of the wav2vec 2.0 kind."""
    return config.audio_traits.masks_padding or hasattr(config.audio_config, "conv_stride")


def formats_in(folder: str | os.PathLike[str]) -> list[str]:
    """The formats of the graphs in a folder, `"openvino"` or `"onnx"`; empty if it holds no export."""
    return [name for name, suffix in SUFFIXES.items() if Path(folder, f"{FUSION}{suffix}").is_file()]


def load_exported(
    folder: str | os.PathLike[str],
    *,
    backend: str | None = None,
    dtype: str | torch.dtype | None = None,
    num_threads: int | None = None,
) -> ExportedFoalNet:
    """Load an export that [`export_checkpoint`] wrote.

    `pipeline("audio-video-emotion", model=folder, dtype="bfloat16")` does this by itself.

    Args:
        folder (`str` or `os.PathLike`): Folder of the export.
        backend (`"openvino"` or `"onnx"`, *optional*): The runtime; by default that of the export.
        dtype (`"float32"` or `"bfloat16"`, or torch's, *optional*): Precision of the encoders, float32 by default.
            `"bfloat16"`, with OpenVINO only, is a hint: processors without instructions for it compute in float32.
        num_threads (`int`, *optional*): Number of threads; by default that of torch.

    Returns:
        [`ExportedFoalNet`]

    Raises:
        FileNotFoundError: If the folder holds no export, or none for this backend.
        ImportError: If the runtime is not installed.
        ValueError: If an argument is none of the values above.

    Example:

    ```python
    >>> from foal_hf.export.exported import load_exported
    >>> from transformers import pipeline

    >>> model = load_exported("outputs/foal-net-openvino", dtype="bfloat16", num_threads=4)
    >>> classify = pipeline("audio-video-emotion", model=model, processor="outputs/foal-net-openvino")
    ```
    """
    folder = Path(folder)
    if backend not in (None, *SUFFIXES):
        raise ValueError(f"Unknown `backend` {backend!r}; expected one of {', '.join(SUFFIXES)}.")
    dtype = "float32" if dtype in (None, "auto") else str(dtype).removeprefix("torch.")
    if dtype not in ("float32", "bfloat16"):
        raise ValueError(f"Unknown `dtype` {dtype!r}; expected float32 or bfloat16.")
    there = formats_in(folder)
    if not there or backend not in (None, *there):
        raise FileNotFoundError(
            f"{folder} holds no export{f' for {backend}' if backend else ''}. To make one, run: "
            f"foal-hf export CHECKPOINT --format {backend or 'openvino'} --output {folder}"
        )
    backend = backend or there[0]
    if backend == "onnx" and dtype != "float32":
        raise ValueError("onnxruntime computes in float32 on CPUs. For bfloat16, export with `format='openvino'`.")
    threads = num_threads or torch.get_num_threads()
    opener = _openvino_opener(dtype, threads) if backend == "openvino" else _onnxruntime_opener(threads)

    def open_graph(name: str, half_is_enough: bool) -> Graph:
        return opener(folder / f"{name}{SUFFIXES[backend]}", half_is_enough)

    return ExportedFoalNet(folder, FoalNetConfig.from_pretrained(folder), backend, open_graph)


def import_openvino() -> ModuleType:
    """Import OpenVINO without the usage report that it sends over the network on import.

    Raises:
        ImportError: If it is not installed.
    """
    reporter = "openvino_telemetry"
    is_first = reporter not in sys.modules and "openvino" not in sys.modules
    if is_first:
        sys.modules[reporter] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import openvino
    except ImportError as error:
        raise ImportError("OpenVINO is not installed: pip install 'foal-hf[openvino]'.") from error
    finally:
        if is_first:
            del sys.modules[reporter]
    return openvino


def _openvino_opener(dtype: str, num_threads: int) -> Callable[[Path, bool], Graph]:
    openvino = import_openvino()
    core = openvino.Core()

    def open_graph(path: Path, half_is_enough: bool) -> Graph:
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": num_threads,
            "INFERENCE_PRECISION_HINT": "bf16" if half_is_enough and dtype == "bfloat16" else "f32",
        }
        compiled = core.compile_model(path, "CPU", settings)

        def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
            outputs = compiled(_arrays(inputs), share_inputs=True)
            return [torch.from_numpy(outputs[index]) for index in range(len(outputs))]

        return run

    return open_graph


def _onnxruntime_opener(num_threads: int) -> Callable[[Path, bool], Graph]:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("onnxruntime is not installed: pip install 'foal-hf[onnx]'.") from error

    def open_graph(path: Path, half_is_enough: bool) -> Graph:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = [given.name for given in session.get_inputs()]

        def run(*inputs: torch.Tensor) -> list[torch.Tensor]:
            outputs = session.run(None, dict(zip(names, _arrays(inputs), strict=True)))
            return [torch.from_numpy(output) for output in outputs]

        return run

    return open_graph


def _arrays(tensors: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    return [tensor.detach().cpu().contiguous().numpy() for tensor in tensors]


def _mask_or_ones(mask: torch.Tensor | None, sequence: torch.Tensor) -> torch.Tensor:
    return torch.ones(sequence.shape[:2], dtype=torch.bool) if mask is None else mask.bool()


def _absent(batch_size: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(batch_size, 1, width), torch.zeros(batch_size, 1, dtype=torch.bool)


__all__ = ["ExportedFoalNet", "formats_in", "load_exported", "takes_audio_mask"]
