"""Recipes: the values of the shipped ones, and the errors of faulty ones."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import yaml

import foal_hf
from foal_hf.experiments.architectures import ARCHITECTURES
from foal_hf.experiments.assembly import make_model, make_processor
from foal_hf.experiments.machines import gpu
from foal_hf.experiments.recipe import _SECTIONS, Recipe, _fields, available_recipes, load_recipe
from foal_hf.experiments.records import describe_run
from foal_hf.experiments.steps import Steps, config_of
from foal_hf.foal_net.configuration_foal_net import FoalNetConfig
from foal_hf.training.arguments import FoalNetTrainingArguments


RECIPES = Path(foal_hf.__file__).parent / "experiments" / "recipes"


def write(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_seven_recipes_ship_with_the_package() -> None:
    assert available_recipes() == ["base", "default", "open", "paper", "small", "tiny", "whisper"]
    assert all(load_recipe(name).description for name in available_recipes())


def test_the_paper_recipe_holds_every_published_value() -> None:
    recipe = load_recipe("paper")
    assert (recipe.audio_encoder, recipe.vision_encoder) == ("microsoft/wavlm-large", "openai/clip-vit-large-patch14")
    assert recipe.processor == {"normalize_waveform": False, "frames_per_second": 30.0, "max_seconds": 6.0}
    assert recipe.padding == "max_length" and recipe.precision == "fp16" and recipe.seed == 1234
    training = {
        "num_train_epochs": 40,
        "per_device_train_batch_size": 16,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.01,
        "class_balanced": True,
        "train_sampling_strategy": "random",
        "optim": "adamw_torch",
    }
    assert training.items() <= recipe.training.items()
    assert "warmup_steps" not in recipe.training and recipe.training["max_grad_norm"] == 0
    method = {
        "evaluation_negatives": "random",
        "matching_needs_negative": False,
        "gather_with_gradient": False,
        "modality_dropout": 0.0,
        "alignment_loss_weight": 1.0,
        "matching_loss_weight": 0.1,
        "projection_dim": 512,
        "projection_dropout": 0.5,
        "num_fusion_layers": 2,
        "num_fusion_heads": 4,
        "fusion_dropout": 0.1,
    }
    assert method.items() <= recipe.config.items()
    assert recipe.config["temperature_init_value"] == pytest.approx(math.log(1 / 0.07), abs=1e-12)


def test_the_default_recipe_gives_a_reason_for_each_difference_from_the_paper() -> None:
    lines = (RECIPES / "default.yaml").read_text(encoding="utf-8").splitlines()
    settings = {line.split(":")[0].strip(): line for line in lines if line.startswith(("  ", "precision"))}
    paper, ours = load_recipe("paper"), load_recipe("default")
    differing = {
        name
        for section in _SECTIONS
        for name, value in getattr(ours, section).items()
        if getattr(paper, section).get(name) != value
    }
    assert settings.keys() == differing | {"precision"} and len(differing) > 10
    assert all("# " in line for line in settings.values())
    assert ours.config["evaluation_negatives"] == "hardest" and ours.padding == "longest"


def test_a_name_belongs_to_one_section_only() -> None:
    names = [name for section in _SECTIONS for name in _fields(section)]
    assert len(names) == len(set(names)) > 130


def test_every_field_of_the_arguments_and_of_the_method_can_be_set() -> None:
    arguments = {field.name for field in dataclasses.fields(FoalNetTrainingArguments) if field.init}
    assert arguments - set(_fields("training")) == {"output_dir", "load_best_model_at_end", "resume_from_checkpoint"}
    own = {name for name in vars(FoalNetConfig)["__annotations__"] if not name.startswith("_") and name.islower()}
    own -= {"model_type", "sub_configs", "keys_to_ignore_at_inference"}
    others = {"audio_config", "vision_config", "audio_feature_dim", "video_feature_dim"}
    others |= {"trained_on_generated_data", "calibration_temperature"}
    assert own - set(_fields("config")) == others


def test_settings_find_their_section_and_their_type() -> None:
    recipe = load_recipe("paper").with_settings(
        {"learning_rate": "3e-5", "frames_per_second": 7, "modality_dropout": 0.25, "data.padding": "longest"}
    )
    assert recipe.training["learning_rate"] == 3e-5
    assert recipe.processor["frames_per_second"] == 7.0 and isinstance(recipe.processor["frames_per_second"], float)
    assert recipe.config["modality_dropout"] == 0.25 and recipe.padding == "longest"
    assert load_recipe("paper").training["learning_rate"] == 1e-4  # the shipped one stays as it is


def test_a_number_that_yaml_reads_as_text_is_a_number(tmp_path: Path) -> None:
    assert load_recipe(write(tmp_path, "training: {learning_rate: 2e-5}")).training["learning_rate"] == 2e-5


def test_your_own_recipe_changes_another(tmp_path: Path) -> None:
    write(tmp_path, "base: paper\ntraining: {learning_rate: 2.0e-5}\nprecision: bf16", "first")
    recipe = load_recipe(write(tmp_path, "base: first.yaml\nencoders: {audio: org/ears, vision: org/eyes}", "second"))
    assert recipe.name == "second" and recipe.precision == "bf16" and recipe.audio_encoder == "org/ears"
    assert recipe.training["learning_rate"] == 2e-5 and recipe.training["num_train_epochs"] == 40


def test_a_recipe_written_out_and_read_again_is_the_same(tmp_path: Path) -> None:
    for name in available_recipes():
        recipe = load_recipe(name)
        assert load_recipe(write(tmp_path, yaml.safe_dump(recipe.as_dict()), name)) == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 3", r"Unknown epochs in the recipe; expected some of description, base"),
        ("training: {epochs: 3}", r"Unknown epochs in training; expected some of .*num_train_epochs"),
        ("config: {id2label: {0: a}}", r"Unknown id2label in config; expected .*, projection_dim"),
        ("training: {learning_rate: fast}", r"training.learning_rate is 'fast'; expected float"),
        ("training: {class_balanced: 1}", r"training.class_balanced is 1; expected bool"),
        ("training: {num_train_epochs: yes}", r"training.num_train_epochs is True; expected float"),
        ("config: {evaluation_negatives: soft}", r"is 'soft'; expected 'hardest' or 'random'"),
        ("processor: {max_seconds: long}", r"processor.max_seconds is 'long'; expected float or null"),
        ("training: {output_dir: out}", r"Unknown output_dir in training"),
        ("precision: fp8", r"precision is 'fp8'; expected 'fp32' or 'bf16' or 'fp16'"),
        ("encoders: {audio: org/ears}", r"names one encoder"),
        ("encoders: [org/ears, org/eyes]", r"encoders is \['org/ears', 'org/eyes'\]; expected names with values"),
        ("base: mine.yaml", r"has itself as its base"),
        ("training: [3]", r"training is \[3\]; expected names with values"),
        ("training: 0\nbase: paper", r"training is 0; expected names with values"),
        ("training: {seed: 3}\nprecision: fp32\ntraining: {seed: 5}", r"'training' is set twice"),
        ("training: {seed: 3, seed: 5}", r"'seed' is set twice"),
        ("training: {", r"is no YAML"),
    ],
)
def test_errors_of_a_recipe_are_found_when_it_is_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recipe(write(tmp_path, text))


@pytest.mark.parametrize("text", ["", "# base: paper", "{}", "training:", "training: {}\ndata:", "description: ''"])
def test_an_empty_recipe_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"mine\.yaml is empty; expected at least one of .*training.*set `base`"):
        load_recipe(write(tmp_path, text))


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(
        FileNotFoundError,
        match="Unknown recipe 'papre'; expected one of base, default, open, paper, small, tiny, whisper, or your own",
    ):
        load_recipe("papre")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lr", "Unknown setting 'lr'"),
        ("output_dir", "'output_dir' cannot be set"),
        ("config.learning_rate", "Unknown setting 'config."),
    ],
)
def test_an_unknown_setting_is_an_error(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe("empty").with_settings({name: 1})


def test_a_recipe_names_the_architecture_that_it_trains_from_scratch(tmp_path: Path) -> None:
    small = load_recipe("small")
    assert small.architecture == "small" and small.is_from_scratch and small.as_dict()["architecture"] == "small"
    assert load_recipe("tiny").architecture == load_recipe("tiny").as_dict()["architecture"] == "tiny"
    unnamed = dataclasses.replace(load_recipe("tiny"), architecture=None)
    assert describe_run(unnamed, {}) | {"architecture": None} == describe_run(load_recipe("tiny"), {})
    assert describe_run(small, {})["architecture"] == "small"
    mine = load_recipe(write(tmp_path, "base: small\nencoders: {audio: a, vision: b}"))
    assert (mine.architecture, mine.audio_encoder, mine.is_from_scratch) == (None, "a", False)
    assert small.with_encoders("a", "b").encoder_names() == ("a", "b")
    back = load_recipe(write(tmp_path, "base: default\narchitecture: small", name="back"))
    assert back.encoder_names() == (None, None) and back.architecture == "small"
    assert back.training == load_recipe("default").training
    with pytest.raises(ValueError, match="`architecture` is 'large'; expected one of tiny, small"):
        load_recipe(write(tmp_path, "architecture: large"))
    with pytest.raises(ValueError, match="names encoders and the architecture 'small'"):
        load_recipe(write(tmp_path, "architecture: small\nencoders: {audio: a, vision: b}"))


def test_an_encoder_of_random_weights_is_not_frozen() -> None:
    with pytest.raises(ValueError, match=r"small freezes the vision encoder, whose weights are random .*--init"):
        make_model(load_recipe("small"), ["calm", "afraid"])
    audio = Recipe("mine", config={"freeze_audio_encoder": True})
    with pytest.raises(ValueError, match="mine freezes the audio encoder"):
        make_model(audio, ["calm", "afraid"])
    assert make_model(audio.with_features({"audio"}), ["calm", "afraid"], feature_widths={"audio": 12})


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_takes_the_settings_and_labels_of_a_run(name: str) -> None:
    recipe = Recipe("mine", architecture=name, config={"alignment_loss_weight": 0.25}, processor={"max_seconds": 3.0})
    torch.manual_seed(0)
    model, processor = make_model(recipe, ["calm", "afraid"]), make_processor(recipe)
    assert model.config.id2label == {0: "calm", 1: "afraid"} and model.config.alignment_loss_weight == 0.25
    own = ARCHITECTURES[name].make_model().config
    assert model.config.audio_config.to_dict() == own.audio_config.to_dict() and processor.max_seconds == 3.0
    frames = torch.randint(0, 255, (6, 3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy()
    inputs = processor(audio=[noise], videos=[frames], sampling_rate=16_000)
    assert model.eval()(**inputs).logits.isfinite().all()
    of_features = recipe.with_features({"audio"})
    assert make_model(of_features, ["calm", "afraid"], feature_widths={"audio": 12}).config.audio_config is None
    assert make_processor(of_features).feature_extractor is None
    assert config_of(recipe, 2).vision_config.to_dict() == own.vision_config.to_dict()
    steps = Steps(recipe, gpu("L4"), 2)
    shown = processor.video_processor.crop_size or processor.video_processor.size
    assert steps.image_size == (shown["height"], shown["width"])
