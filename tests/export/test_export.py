import copy
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from requirements import need
from tiny_models import with_random_biases
from transformers import AutoModel, CLIPVisionConfig, Wav2Vec2Config, WavLMConfig, pipeline

from foal_hf.cli import main
from foal_hf.experiments.tiny import make_tiny_processor
from foal_hf.export import Export, export_checkpoint
from foal_hf.export.exported import ExportedFoalNet, import_openvino, load_exported
from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.foal_net.modeling_foal_net import FoalNetForEmotionClassification
from foal_hf.registration import TASK, TINY_CHECKPOINT, register
from foal_hf.synthetic import generate_recording


register()
PARITY = {"rtol": 0.0, "atol": 1e-4}
NAMES = ("logits", "audio_embeds", "video_embeds", "audio_mask", "video_mask")
FORMATS = ("openvino", "onnx")
_AUDIO = {
    "hidden_size": 32,
    "num_hidden_layers": 2,  # the second takes the position bias of the first
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "conv_dim": (17, 19),
    "conv_kernel": (400, 3),
    "conv_stride": (160, 2),
    "num_conv_pos_embeddings": 19,
    "num_conv_pos_embedding_groups": 2,
    "mask_time_prob": 0.0,
}
_VISION = CLIPVisionConfig(
    hidden_size=24,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=29,
    image_size=48,
    patch_size=16,
    projection_dim=20,
)


def save_checkpoint(folder, audio_config=None) -> FoalNetForEmotionClassification:
    torch.manual_seed(0)
    audio_config = audio_config or WavLMConfig(
        **_AUDIO, feat_extract_norm="layer", do_stable_layer_norm=True, num_buckets=22, max_bucket_distance=41
    )
    config = FoalNetConfig(
        audio_config=audio_config, vision_config=copy.deepcopy(_VISION), projection_dim=16, num_fusion_layers=1
    )
    model = with_random_biases(FoalNetForEmotionClassification(config)).eval()
    model.save_pretrained(folder)
    make_tiny_processor().save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    return folder, save_checkpoint(folder)


@pytest.fixture(scope="module", params=FORMATS)
def exported(request, checkpoint, tmp_path_factory) -> tuple[FoalNetForEmotionClassification, ExportedFoalNet, Export]:
    need(request.param)
    folder, model = checkpoint
    export = export_checkpoint(folder, tmp_path_factory.mktemp(request.param), format=request.param)
    return model, load_exported(export.folder), export


@pytest.fixture(scope="module")
def half_export(tmp_path_factory) -> tuple[FoalNetForEmotionClassification, Export]:
    """With weights in half precision, and an audio encoder whose features padding changes."""
    need("openvino")
    folder = tmp_path_factory.mktemp("half")
    model = save_checkpoint(folder, Wav2Vec2Config(**{**_AUDIO, "num_hidden_layers": 1}, feat_extract_norm="group"))
    return model, export_checkpoint(folder, folder / "export", dtype="float16")


def batch(samples: list[int], frames: list[int]) -> dict[str, torch.Tensor]:
    """Clips of so many samples and frames, padded to the longest; what lies in the padding is noise."""
    generator = torch.Generator().manual_seed(1)
    rows = max(len(samples), len(frames))
    inputs: dict[str, torch.Tensor] = {}
    if any(samples):
        inputs["input_values"] = torch.randn(rows, max(samples), generator=generator)
        inputs["attention_mask"] = (torch.arange(max(samples)) < torch.tensor(samples)[:, None]).long()
    if any(frames):
        inputs["pixel_values_videos"] = torch.randn(rows, max(frames), 3, 48, 48, generator=generator)
        inputs["padding_mask_videos"] = (torch.arange(max(frames)) < torch.tensor(frames)[:, None]).long()
    return inputs


def assert_same(model, exported, inputs, **tolerance) -> None:
    with torch.no_grad():
        expected = model(**inputs)
    got = exported(**inputs)
    for name in NAMES:
        torch.testing.assert_close(got[name], expected[name], **(tolerance or PARITY))


def test_a_broken_checkpoint_is_named_in_a_sentence(tmp_path):
    broken = shutil.copytree(TINY_CHECKPOINT, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"\0" * 7)
    with pytest.raises(ValueError, match=f"The checkpoint {broken} cannot be loaded: SafetensorError: "):
        export_checkpoint(broken, tmp_path / "export")


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        ([4003, 3001, 5003], [5, 3, 7]),
        ([4003], [1]),
        ([16001, 720], [2, 11]),
        ([720, 720], [3, 3]),  # one position of sound each
        ([4003, 0, 3001, 300], [5, 3, 0, 2]),  # the third has no picture; the second and fourth no sound
    ],
)
def test_exported_graphs_give_what_the_checkpoint_gives(exported, samples, frames) -> None:
    model, graphs, _ = exported
    assert_same(model, graphs, batch(samples, frames))


@pytest.mark.parametrize(("samples", "frames"), [([4003, 3001], [0, 0]), ([0, 0, 0], [5, 3, 7]), ([1013], [0])])
def test_one_modality_needs_no_graph_of_the_other(exported, samples, frames) -> None:
    model, _, export = exported
    graphs = load_exported(export.folder)
    assert_same(model, graphs, batch(samples, frames))
    opened = {"_audio_encoder", "_vision_encoder"} & set(vars(graphs))
    assert opened == ({"_audio_encoder"} if any(samples) else {"_vision_encoder"})


def test_masks_may_be_left_out_and_pictures_given_as_stored_features(exported) -> None:
    model, graphs, _ = exported
    inputs = batch([4003, 4003], [3, 3])
    assert_same(model, graphs, {name: value for name, value in inputs.items() if "mask" not in name})
    stored = model.foal_net.get_video_features(inputs["pixel_values_videos"]).last_hidden_state
    assert_same(model, graphs, {"input_values": inputs["input_values"], "video_features": stored})
    heard = model.foal_net.get_audio_features(inputs["input_values"]).last_hidden_state
    assert_same(model, graphs, {"audio_features": heard, "video_features": stored})


def test_the_export_reports_its_size_and_how_far_off_it_is(exported) -> None:
    _, _, export = exported
    assert 0 < export.max_difference < 1e-4
    sizes = [file.stat().st_size for file in export.folder.iterdir() if file.suffix != ".json"]
    assert export.num_bytes == sum(sizes) and len(sizes) == 6
    assert {file.name for file in export.folder.glob("*.json")} == {"config.json", "processor_config.json"}


def test_an_export_names_no_path_of_the_machine_that_made_it(exported) -> None:
    _, _, export = exported
    for file in export.folder.iterdir():
        content = file.read_bytes()
        assert b"site-packages" not in content and b"modeling_wavlm" not in content


def test_the_pipeline_takes_an_export_for_a_model(exported, checkpoint) -> None:
    folder, _ = checkpoint
    _, graphs, export = exported
    clips = [
        {"audio": np.sin(np.arange(8009) / 9).astype(np.float32), "video": None, "sampling_rate": 16_000},
        {"audio": np.cos(np.arange(7001) / 5).astype(np.float32), "video": None, "sampling_rate": 16_000},
    ]
    expected = pipeline(TASK, model=str(folder), device="cpu")(clips, return_embeddings=True)
    classify = pipeline(TASK, model=graphs, processor=str(export.folder))
    assert "ExportedFoalNet" in repr(classify)
    for got, want in zip(classify(clips, return_embeddings=True, batch_size=2), expected, strict=True):
        assert [score["label"] for score in got["scores"]] == [score["label"] for score in want["scores"]]
        np.testing.assert_allclose(got["audio_embeds"], want["audio_embeds"], atol=1e-4)
        assert got["video_embeds"] is None and want["video_embeds"] is None


def test_the_pipeline_opens_the_folder_of_an_export_by_itself(exported) -> None:
    _, graphs, export = exported
    classify = pipeline(TASK, model=str(export.folder), backend=graphs.backend)
    assert isinstance(classify.model, ExportedFoalNet) and classify.model.backend == export.format
    clip = {"audio": np.sin(np.arange(8009) / 9).astype(np.float32), "video": None, "sampling_rate": 16_000}
    assert classify(clip) == pipeline(TASK, model=graphs, processor=str(export.folder))(clip)
    other = next(format for format in FORMATS if format != export.format)
    with pytest.raises(ValueError, match=f"`backend` is '{other}', but this model runs in {export.format}"):
        pipeline(TASK, model=str(export.folder), backend=other)


def test_a_checkpoint_of_weights_says_how_it_is_exported(checkpoint) -> None:
    folder, _ = checkpoint
    with pytest.raises(ValueError, match=r"this model runs in torch.*foal-hf export CHECKPOINT"):
        pipeline(TASK, model=str(folder), backend="openvino")
    assert pipeline(TASK, model=str(folder), backend="torch").model.dtype == torch.float32


def test_the_precision_of_a_pipeline_reaches_openvino(half_export, monkeypatch) -> None:
    _, export = half_export
    asked = []
    monkeypatch.setattr("foal_hf.export.exported._openvino_opener", lambda dtype, num_threads: asked.append(dtype))
    pipeline(TASK, model=str(export.folder), dtype="bfloat16")
    pipeline(TASK, model=str(export.folder), dtype=torch.float32)
    pipeline(TASK, model=str(export.folder))
    assert asked == ["bfloat16", "float32", "float32"]


def test_the_command_writes_an_export_that_predict_takes_for_a_model(checkpoint, tmp_path, capsys) -> None:
    need("openvino")
    folder, _ = checkpoint
    assert main(["export", str(folder), "--output", str(tmp_path / "export")]) == 0
    assert "MB for openvino" in capsys.readouterr().out
    generate_recording(tmp_path / "clip.mp4", ["happy"], seconds_each=1.2)
    assert main(["predict", str(tmp_path / "clip.mp4"), "--json", "--model", str(tmp_path / "export")]) == 0
    of_export = json.loads(capsys.readouterr().out)
    assert main(["predict", str(tmp_path / "clip.mp4"), "--json", "--model", str(folder)]) == 0
    (of_checkpoint,) = json.loads(capsys.readouterr().out)
    assert [score["label"] for score in of_export[0]["scores"]] == [s["label"] for s in of_checkpoint["scores"]]


def test_clips_with_nothing_in_them_are_named(exported) -> None:
    _, graphs, _ = exported
    with pytest.raises(ValueError, match=r"Clips \[1\].* neither audio nor video"):
        graphs(**batch([4003, 0], [3, 0]))
    with pytest.raises(ValueError, match="No input: give"):
        graphs()
    with pytest.raises(ValueError, match="Audio of 2 clips and video of 3"):
        graphs(**batch([4003, 4003], [0]), **batch([0], [2, 2, 2]))


def test_an_encoder_whose_features_padding_changes_goes_by_length(half_export) -> None:
    model, export = half_export
    assert_same(model, load_exported(export.folder), batch([4003, 0, 3001, 4003], [2, 3, 1, 0]), rtol=0.0, atol=2e-3)


def test_bfloat16_is_a_hint_that_keeps_fusion_exact(half_export) -> None:
    model, export = half_export
    inputs = batch([4003, 3001], [5, 3])
    graphs = load_exported(export.folder, dtype="bfloat16")
    with torch.no_grad():
        expected, got = model(**inputs), graphs(**inputs)
    for name in NAMES:  # a processor with bfloat16 rounds after every operation, another one does not
        assert torch.cosine_similarity(got[name].flatten().float(), expected[name].flatten().float(), dim=0) > 0.98, (
            name
        )
    # Given the features of the encoders, nothing is left of the hint but the rounding of the stored weights.
    stored = model.foal_net.get_video_features(inputs["pixel_values_videos"]).last_hidden_state.detach()
    assert_same(model, graphs, {"video_features": stored}, rtol=0.0, atol=2e-3)


def test_weights_in_half_precision_take_half_the_space(half_export) -> None:
    _, export = half_export
    weights = sum(file.stat().st_size for file in export.folder.glob("*.bin"))
    full = (export.folder.parent / "model.safetensors").stat().st_size
    assert 0.4 < weights / full < 0.6
    assert export.max_difference > 1e-6


def test_an_export_that_differs_is_not_handed_out(checkpoint, tmp_path, monkeypatch) -> None:
    need("openvino")
    monkeypatch.setattr("foal_hf.export._compare", lambda model, folder: 0.5)
    monkeypatch.setattr("foal_hf.export._parts", lambda model: {})
    with pytest.raises(RuntimeError, match=r"differ from those of .* by 5.0e-01; expected at most 1e-04"):
        export_checkpoint(checkpoint[0], tmp_path / "export")
    assert list((tmp_path / "export").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "tflite"}, "Unknown `format` 'tflite'; expected one of openvino, onnx"),
        ({"dtype": "int8"}, "Unknown `dtype` 'int8'; expected one of float32, float16"),
        (
            {"format": "onnx", "dtype": "float16"},
            "expected 'float32' for onnx: onnxruntime computes in float32 on CPUs",
        ),
    ],
)
def test_wrong_arguments_of_an_export_say_what_is_right(tmp_path, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        export_checkpoint(tmp_path, tmp_path / "export", **arguments)
    assert not (tmp_path / "export").exists()


def test_one_folder_holds_one_export(tmp_path) -> None:
    (tmp_path / "fusion.xml").touch()
    with pytest.raises(FileExistsError, match="holds an export for openvino with its own config"):
        export_checkpoint(tmp_path, tmp_path, format="onnx")


def test_wrong_arguments_of_loading_say_what_is_right(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no export. To make one, run: foal-hf export CHECKPOINT"):
        load_exported(tmp_path)
    (tmp_path / "fusion.onnx").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no export for openvino.*--format openvino"):
        load_exported(tmp_path, backend="openvino")
    with pytest.raises(ValueError, match="float32 on CPUs"):
        load_exported(tmp_path, dtype="bfloat16")
    with pytest.raises(ValueError, match="Unknown `dtype` 'int8'; expected float32 or bfloat16"):
        load_exported(tmp_path, dtype="int8")
    with pytest.raises(ValueError, match="Unknown `backend` 'tflite'; expected one of openvino, onnx"):
        load_exported(tmp_path, backend="tflite")


@pytest.mark.parametrize("backend", FORMATS)
def test_a_missing_runtime_names_its_extra(tmp_path, monkeypatch, backend) -> None:
    (tmp_path / f"fusion.{'xml' if backend == 'openvino' else 'onnx'}").touch()
    monkeypatch.setitem(sys.modules, "openvino" if backend == "openvino" else "onnxruntime", None)
    with pytest.raises(ImportError, match=rf"foal-hf\[{backend}\]"):
        load_exported(tmp_path)


def test_an_export_is_no_checkpoint_and_says_so(exported) -> None:
    _, _, export = exported
    with pytest.raises(OSError, match="no file named"):
        AutoModel.from_pretrained(export.folder)


def test_openvino_reports_nothing_about_its_use() -> None:
    need("openvino")
    import_openvino()
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"
    assert "openvino_telemetry" not in sys.modules


def test_a_checkpoint_that_takes_features_is_not_exported(tmp_path) -> None:
    need("openvino")
    FoalNetForEmotionClassification(FoalNetConfig(audio_feature_dim=8, video_feature_dim=12)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"has no audio encoder: it takes stored features\. An export speeds up"):
        export_checkpoint(tmp_path, tmp_path / "export")
    assert not (tmp_path / "export").exists()
