"""FoalNetConfig: the published defaults, validation, labels, and the way through JSON."""

import contextlib
import json
import logging
import math
from collections.abc import Iterator

import pytest
from tiny_models import tiny_config
from transformers import (
    AutoConfig,
    BertConfig,
    Qwen2VLConfig,
    ResNetConfig,
    Siglip2VisionConfig,
)

from foal_hf.foal_net.configuration_foal_net import FoalNetConfig


@contextlib.contextmanager
def catch_transformers_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """transformers' own loggers do not hand their records on, so that pytest sees none."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        yield
    finally:
        logger.removeHandler(caplog.handler)


def test_defaults_describe_the_published_model() -> None:
    config = FoalNetConfig()
    assert (config.audio_config.model_type, config.audio_width) == ("wavlm", 1024)
    assert (config.vision_config.model_type, config.video_width) == ("clip_vision_model", 768)
    assert (config.num_fusion_layers, config.num_fusion_heads, config.projection_dim) == (2, 4, 512)
    assert (config.alignment_loss_weight, config.matching_loss_weight) == (1.0, 0.1)
    assert config.temperature_init_value == pytest.approx(math.log(1 / 0.07))
    assert config.id2label == {0: "happy", 1: "neutral", 2: "sad", 3: "angry"}
    assert config.label2id == {"happy": 0, "neutral": 1, "sad": 2, "angry": 3}


def test_config_survives_json(tmp_path) -> None:
    config = tiny_config("hubert", "dinov2", id2label={0: "calm", 1: "afraid"}, modality_dropout=0.2)
    config.save_pretrained(tmp_path)
    loaded = FoalNetConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert type(loaded.audio_config) is type(config.audio_config)
    assert loaded.label2id == {"calm": 0, "afraid": 1}


def test_changing_one_field_changes_one_line_of_the_saved_file() -> None:
    before, after = (tiny_config(**fields).to_json_string().splitlines() for fields in ({}, {"num_fusion_layers": 3}))
    assert [line for line in after if line not in before] == ['  "num_fusion_layers": 3,']


def test_labels_can_be_named_or_counted() -> None:
    assert tiny_config(id2label={0: "calm", 1: "afraid"}).label2id == {"calm": 0, "afraid": 1}
    assert tiny_config(num_labels=7).num_labels == 7
    assert tiny_config(num_labels=7).id2label[6] == "LABEL_6"


def test_names_alone_make_the_classes_in_either_direction() -> None:
    assert tiny_config(label2id={"calm": 0, "afraid": 1}).id2label == {0: "calm", 1: "afraid"}
    disagreeing = tiny_config(id2label={0: "calm", 1: "afraid"}, label2id={"calm": 1, "afraid": 0})
    assert disagreeing.label2id == {"calm": 0, "afraid": 1}


def test_names_win_over_their_number_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with catch_transformers_log(caplog):
        config = tiny_config(id2label={0: "a", 1: "b"}, num_labels=3)
        assert (config.id2label, config.label2id, config.num_labels) == ({0: "a", 1: "b"}, {"a": 0, "b": 1}, 2)
        assert "`num_labels` is 3, but `id2label` names 2 labels, which are used: a, b." in caplog.text
        caplog.clear()
        assert tiny_config(label2id={"a": 0, "b": 1}, num_labels=2).id2label == {0: "a", 1: "b"}
        assert not caplog.text


def test_labels_of_a_checkpoint_can_be_changed_while_loading(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    tiny_config(id2label={0: "a", 1: "b"}).save_pretrained(tmp_path)
    with catch_transformers_log(caplog):
        three = FoalNetConfig.from_pretrained(tmp_path, num_labels=3)
        assert three.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
        assert FoalNetConfig.from_pretrained(tmp_path, num_labels=2).id2label == {0: "a", 1: "b"}
        assert FoalNetConfig.from_pretrained(tmp_path, id2label={0: "x", 1: "y"}).label2id == {"x": 0, "y": 1}
        assert FoalNetConfig.from_pretrained(tmp_path, label2id={"x": 0}).id2label == {0: "x"}
    assert not caplog.text


def test_one_label_means_regression_and_more_mean_classes() -> None:
    assert tiny_config(num_labels=1).problem_type == "regression"
    assert tiny_config(id2label={0: "valence"}).problem_type == "regression"
    assert tiny_config().problem_type is None
    config = tiny_config(problem_type="regression", id2label={0: "valence", 1: "activation"}, same_emotion_distance=0.5)
    assert FoalNetConfig(**config.to_dict()).to_dict() == config.to_dict()


def test_the_shortest_audio_is_the_receptive_field_of_the_front_end() -> None:
    assert FoalNetConfig().min_audio_samples == 400


@pytest.mark.parametrize(
    ("vision", "fields", "pooling", "width"),
    [
        ("clip", {}, "projection", 20),
        ("clip-without-projection", {}, "pooler", 24),
        ("siglip", {}, "pooler", 24),
        ("dinov2", {}, "cls", 24),
        ("vit", {}, "cls", 24),
        ("vit", {"vision_pooling": "mean"}, "mean", 24),
    ],
)
def test_a_frame_is_pooled_the_way_its_encoder_was_trained(vision, fields, pooling, width) -> None:
    config = tiny_config(vision=vision, **fields)
    assert (config.vision_pooling, config.video_width) == (pooling, width)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_fusion_heads": 7}, "7; expected a divisor of the audio width 32"),
        ({"num_fusion_heads": 0}, "`num_fusion_heads` is 0; expected more than 0"),
        ({"alignment_loss_weight": float("nan")}, "`alignment_loss_weight` is nan; expected 0"),
        ({"id2label": {0: "calm", 1: "calm"}}, "different names, numbered from 0"),
        ({"id2label": {0: "calm", 2: "afraid"}}, "different names, numbered from 0"),
        ({"fusion_dropout": 1.0}, r"`fusion_dropout` is 1.0; expected a probability in \[0, 1\)"),
        ({"matching_loss_weight": -0.1}, "`matching_loss_weight` is -0.1; expected 0"),
        ({"projection_dim": 0}, "`projection_dim` is 0; expected more than 0"),
        ({"audio_config": BertConfig()}, "of type .bert.; expected an audio encoder"),
        ({"vision_config": ResNetConfig(num_channels=1)}, "type 'resnet' with 1 channels; expected 3"),
        (
            {"vision_config": Siglip2VisionConfig()},
            "type 'siglip2_vision_model', and its encoder takes .*spatial_shapes",
        ),
        (
            {"vision_config": Qwen2VLConfig().vision_config},
            "type 'qwen2_vl_vision', for which `AutoModel` has no class",
        ),
        ({"problem_type": "multi_label"}, "Unknown `problem_type` 'multi_label'; expected single_label_class"),
        ({"problem_type": "regression"}, "needs names for its numbers, or how many there are"),
        ({"problem_type": "single_label_classification", "num_labels": 1}, "requires `num_labels > 1`"),
        ({"same_emotion_distance": 0.5}, "`problem_type=None`; expected 0 or more, and `problem_type='regression'`"),
        (
            {"problem_type": "regression", "num_labels": 3, "same_emotion_distance": -1.0},
            "is -1.0 .*; expected 0 or more",
        ),
        ({"vision_pooling": "projection", "vision": "vit"}, "needs a CLIP vision encoder, not 'vit'"),
        ({"evaluation_negatives": "easiest"}, "evaluation_negatives"),
        ({"num_fusion_layers": "two"}, "num_fusion_layers"),
    ],
)
def test_bad_values_are_refused_by_name(fields: dict, message: str) -> None:
    base = tiny_config(vision=fields.pop("vision", "clip"))
    arguments = {"audio_config": base.audio_config, "vision_config": base.vision_config, **fields}
    with pytest.raises(Exception, match=message):
        FoalNetConfig(**arguments)


def test_a_wrong_type_is_refused_on_assignment_too() -> None:
    config = tiny_config()
    with pytest.raises(Exception, match="num_fusion_layers"):
        config.num_fusion_layers = "two"


def test_a_saved_config_names_an_encoder_of_the_hub_and_no_folder_of_this_machine(tmp_path) -> None:
    tiny_config().audio_config.save_pretrained(tmp_path / "wavlm")
    config = tiny_config()
    for name, kept in ((str(tmp_path / "wavlm"), ""), ("/gone/wavlm", ""), ("microsoft/wavlm-large", None)):
        config.audio_config = AutoConfig.from_pretrained(tmp_path / "wavlm")
        config.audio_config._name_or_path = name
        config.save_pretrained(tmp_path / "saved")
        content = json.loads((tmp_path / "saved" / "config.json").read_text())
        assert content["audio_config"]["_name_or_path"] == (name if kept is None else kept)


def test_a_saved_config_says_where_every_auto_class_finds_its_code(tmp_path) -> None:
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    classes = [*content["auto_map"].values(), *(entry["impl"] for entry in content["custom_pipelines"].values())]
    for module, name in (entry.split(".") for entry in classes):
        assert f"class {name}(" in (tmp_path / f"{module}.py").read_text()
    assert "custom_pipelines" not in vars(FoalNetConfig.from_pretrained(tmp_path))
