"""Estimates: what is counted on the meta device against hand-computed and measured numbers, and what is made of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from experiment_examples import experiment_tree
from tiny_models import OTHER_AUDIO_ENCODERS
from torch import nn
from transformers import AutoConfig, CLIPVisionConfig, PreTrainedConfig
from transformers.utils import ModelOutput

from foal_hf import FoalNetConfig, FoalNetForEmotionClassification, load_corpus
from foal_hf.cli import main
from foal_hf.data.features.keys import storable_sides
from foal_hf.experiments.counting import Operation, Work, count_step
from foal_hf.experiments.estimate import Estimate, estimate
from foal_hf.experiments.lengths import assumed_lengths, corpus_lengths
from foal_hf.experiments.machines import Machine, available_gpus, gpu, this_machine
from foal_hf.experiments.recipe import Recipe, available_recipes, load_recipe
from foal_hf.experiments.steps import Steps, config_of


SLOW = Machine("a slow one", "cpu", 7e9, 13e9, 3e9, 1e-6, usable_bytes=300 * 2**20)
FROZEN = load_recipe("tiny").with_settings(
    {"freeze_vision_encoder": True, "train_sampling_strategy": "group_by_length"}
)


CORPUS = assumed_lengths(50, 3.0, 2)


@pytest.fixture(scope="module")
def found() -> Estimate:
    """Of a model whose image encoder is frozen."""
    return estimate(FROZEN, CORPUS, SLOW)


class Layer(nn.Module):
    """A transformer layer without norms, and a grouped convolution before it."""

    def __init__(self, width: int, hidden: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.position = nn.Conv1d(width, width, kernel, groups=groups, padding=kernel // 2)
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, states: torch.Tensor) -> ModelOutput:
        states = self.position(states.mT).mT
        heads = [part(states)[:, None] for part in (self.query, self.key, self.value)]
        states = self.out(F.scaled_dot_product_attention(*heads)[:, 0])
        return ModelOutput(loss=self.down(F.gelu(self.up(states))).sum())


class Repeated(nn.Module):
    """Products, an activation that keeps its type, and one weight that is used, and kept, more than once."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(11, 11)

    def forward(self, states: torch.Tensor) -> ModelOutput:
        return ModelOutput(loss=self.linear(F.gelu(self.linear(F.gelu(self.linear(states))))).sum())


def saved_by(model: nn.Module, batch: dict[str, torch.Tensor], half: torch.dtype | None = None) -> int:
    """Bytes that a real forward pass on the CPU keeps for its backward pass."""
    own = {each.untyped_storage().data_ptr() for each in (*model.parameters(), *model.buffers(), *batch.values())}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None),
    ):
        model(**batch)
    return sum(kept.values())


def on_meta(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.to("meta") for name, tensor in batch.items()}


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_operations_of_a_layer_are_those_counted_by_hand(device_type) -> None:
    batch, length, width, hidden, kernel, groups = 3, 19, 10, 23, 7, 5
    with torch.device("meta"):
        layer = Layer(width, hidden, kernel, groups)
    work = count_step(
        layer, lambda: {"states": torch.empty(batch, length, width, device="meta")}, device_type=device_type
    )
    convolution = 2 * length * kernel * width * (width // groups)
    projections = 4 * 2 * length * width**2 + 2 * 2 * length * width * hidden
    attention = 2 * 2 * length**2 * width
    # Backward: both operands of each product; of the convolution, its weight alone; attention's two products twice, and
    # its weights once more, since they were not kept.
    by_hand = 2 * convolution + 3 * projections + (3 + 0.5) * attention
    assert work.flops == batch * by_hand
    for kind in ("convolution", "convolution_backward"):
        assert sum(each.flops for each in work.operations if each.kind == kind) == batch * convolution


@pytest.mark.parametrize(("device_type", "products"), [("cpu", 6), ("cuda", 7)])
def test_attention_with_a_trained_bias_keeps_its_weights_on_a_cpu_alone(device_type, products) -> None:
    class Biased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.empty(1, 2, 19, 19))

        def forward(self, states: torch.Tensor) -> ModelOutput:
            attended = F.scaled_dot_product_attention(states, states, states, attn_mask=self.bias)
            return ModelOutput(loss=attended.sum())

    with torch.device("meta"):
        model = Biased()
        states = torch.empty(3, 2, 19, 8, requires_grad=True)
    # Two products forward and four backward; without the weights, the first once more.
    assert (
        count_step(model, lambda: {"states": states}, device_type=device_type).flops == products * 3 * 2 * 2 * 19**2 * 8
    )


def test_each_operation_takes_as_long_as_its_slowest_part() -> None:
    machine = replace(SLOW, convolution_share=0.5, convolution_backward_share=0.4, random_bytes_per_second=1.5e9)
    operations = {
        Operation(14e9, 3.0): 2,
        Operation(26e9, 3.0, is_half=True): 2,
        Operation(0.0, 9e9): 3,
        Operation(14e9, 3.0, kind="convolution"): 4,
        Operation(14e9, 3.0, kind="convolution_backward"): 5,
        Operation(0.0, 9e9, kind="random"): 6,
        Operation(1.0, 1.0): 1e-6,
    }
    for operation, seconds in operations.items():
        assert machine.seconds(Work((operation,) * 3, 0, 0)) == pytest.approx(3 * seconds)


@pytest.mark.parametrize("recipe", [load_recipe("tiny"), FROZEN], ids=["trained", "frozen"])
def test_a_step_keeps_the_bytes_that_a_real_one_keeps(recipe: Recipe) -> None:
    steps = Steps(recipe, SLOW, num_labels=4)
    model = FoalNetForEmotionClassification(config_of(recipe)).train()
    batch = {
        "input_values": torch.randn(5, 48_000),
        "pixel_values_videos": torch.randn(5, 15, 3, 48, 48),
        "labels": torch.arange(5) % 4,
    }
    counted = count_step(steps.model, lambda: on_meta(batch)).saved_bytes
    assert counted == pytest.approx(saved_by(model, batch), rel=0.005)
    assert counted == steps.count("video", 5, 3.0).saved_bytes


def test_memory_outside_of_the_activations_is_exact(found) -> None:
    model = FoalNetForEmotionClassification(config_of(FROZEN)).train()
    trained = [each for each in model.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    batch = {"input_values": torch.randn(2, 9000), "video_features": torch.randn(2, 3, 64), "labels": torch.arange(2)}
    model(**batch).loss.backward()
    optimizer.step()
    moments = [each for state in optimizer.state.values() for name, each in state.items() if name != "step"]
    assert found.parameters == model.num_parameters()
    assert found.trained_parameters == sum(each.numel() for each in trained) < found.parameters
    for memory in (found.video.memory, found.features.memory):
        assert memory.weights == sum(each.nbytes for each in (*model.parameters(), *model.buffers()))
        assert memory.gradients == sum(each.nbytes for each in trained)
        assert memory.optimizer == sum(each.nbytes for each in moments)
        assert memory.peak > memory.weights + memory.optimizer + memory.activations


def test_the_state_of_the_optimiser_depends_on_the_optimiser() -> None:
    steps = Steps(load_recipe("tiny").with_settings({"optim": "sgd"}), SLOW, 4)
    assert steps.optimizer_bytes == 0
    assert any("sgd holds 0 bytes" in each for each in steps.assumptions)


def test_half_precision_keeps_what_autocast_keeps() -> None:
    states = torch.randn(31, 11)
    with torch.device("meta"):
        model = Repeated()
    work = count_step(model, lambda: on_meta({"states": states}), half=torch.bfloat16)
    assert work.saved_bytes == saved_by(Repeated(), {"states": states}, torch.bfloat16)
    assert work.saved_bytes < count_step(model, lambda: on_meta({"states": states})).saved_bytes
    assert all(operation.is_half for operation in work.operations if operation.flops)


def test_norms_stay_in_single_precision_as_under_autocast() -> None:
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(11, 13), nn.LayerNorm(13))
    types = []
    model[1].register_forward_hook(lambda _, inputs, output: types.extend([inputs[0].dtype, output.dtype]))

    class Loss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, states: torch.Tensor) -> ModelOutput:
            return ModelOutput(loss=self.model(states).sum())

    count_step(Loss(), lambda: {"states": torch.empty(7, 11, device="meta")}, half=torch.float16, device_type="cuda")
    assert types == [torch.float16, torch.float32]


def test_a_model_with_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="has to be on the meta device"):
        count_step(Repeated(), dict)


def test_gradient_checkpointing_keeps_less_and_computes_more() -> None:
    plain = Steps(FROZEN, SLOW, 4).count("features", 3, 2.0)
    works = Steps(FROZEN.with_settings({"gradient_checkpointing": True}), SLOW, 4).count("features", 3, 2.0)
    assert works.saved_bytes < plain.saved_bytes and works.flops > plain.flops


def test_the_largest_batch_fits_and_one_more_does_not(found) -> None:
    steps = Steps(FROZEN, SLOW, 4)
    for source, cost in (("video", found.video), ("features", found.features)):
        peaks = [
            steps.peak_bytes(steps.count(source, size, 6.0)) for size in (cost.largest_batch, cost.largest_batch + 1)
        ]
        assert peaks[0] <= SLOW.usable_bytes < peaks[1]
    assert 1 < found.video.largest_batch <= found.features.largest_batch


def test_stored_features_save_the_image_encoder_in_every_epoch(found) -> None:
    steps = Steps(FROZEN, SLOW, 4)
    frames = [max(1, math.ceil(min(seconds, 6.0) * 5)) for seconds in CORPUS.seconds]
    assert found.features_seconds == pytest.approx(steps.image_seconds * sum(frames))
    runs = [sum(frames[row] for row in [*fold.train, *fold.validation]) for fold in CORPUS.folds]
    saved = found.video.epoch_seconds - found.features.epoch_seconds
    assert saved == pytest.approx(steps.image_seconds * sum(runs) / 2)
    tests = 3 * found.features_seconds  # modality dropout: both, and each alone
    all_saved = found.num_epochs * 2 * saved + tests - found.features_seconds
    assert found.video.all_folds_seconds - found.features.all_folds_seconds == pytest.approx(all_saved)


def test_a_trained_image_encoder_has_no_stored_features() -> None:
    found = estimate(load_recipe("tiny"), assumed_lengths(20, 3.0, 2), SLOW)
    assert found.features is None and found.features_seconds is None
    assert "stored features" not in found.render() and "| from video |" in found.render()


def test_fixed_padding_makes_every_clip_as_long_as_the_longest(found) -> None:
    padded = FROZEN.with_settings({"padding": "max_length"})
    fixed = estimate(padded, CORPUS, SLOW)
    full = SLOW.seconds(Steps(FROZEN, SLOW, 4).count("features", 16, 6.0))
    update = (
        4 * 7 * found.trained_parameters / SLOW.bytes_per_second
    )  # Adam reads four numbers of each, and writes three
    sizes = [len(fold.train) for fold in CORPUS.folds]
    steps = sum(math.ceil(size / 16) for size in sizes)
    assert fixed.features.step_seconds == pytest.approx(full * sum(sizes) / 16 / steps + update)
    assert found.features.step_seconds < 0.8 * fixed.features.step_seconds
    assert fixed.features.memory == found.features.memory
    with pytest.raises(ValueError, match="'max_length' needs `max_seconds`"):
        estimate(padded.with_settings({"max_seconds": None}), CORPUS, SLOW)


def test_assumed_lengths_have_their_mean_and_every_clip_is_tested_once() -> None:
    corpus = assumed_lengths(997, 4.55, 5)
    assert sum(corpus.seconds) / 997 == pytest.approx(4.55, rel=0.01)
    assert sorted(row for fold in corpus.folds for row in fold.test) == list(range(997))
    for fold in corpus.folds:
        assert sorted([*fold.train, *fold.validation, *fold.test]) == list(range(997))
        assert len(fold.validation) == pytest.approx(80, abs=1)
    with pytest.raises(ValueError, match=r"5 clips of 2\.0 s in 5 folds"):
        assumed_lengths(5, 2.0)


def test_lengths_and_folds_are_those_of_a_corpus_on_disk(tmp_path: Path) -> None:
    release = experiment_tree(tmp_path)
    corpus = load_corpus("iemocap", data_dir=release, split=None, allow_partial=True, cache_dir=tmp_path / "cache")
    found = corpus_lengths(corpus)
    rows = next(iter(corpus.values()))
    assert found.seconds == pytest.approx(
        [end - start for start, end in zip(*(rows[f"{side}_seconds"] for side in ("start", "end")), strict=True)]
    )
    assert [fold.name for fold in found.folds] == sorted(set(rows["session"])) and found.num_labels == 4
    assert found.classes == rows["emotion"] and not found.assumptions


def test_every_recipe_that_ships_is_known_without_network_or_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda name: pytest.fail(f"{name} is asked for"))
    sizes = {name: Steps(load_recipe(name), SLOW, 4).parameters for name in available_recipes()}
    with torch.device("meta"):
        assert sizes["paper"] == sizes["default"] == FoalNetForEmotionClassification(FoalNetConfig()).num_parameters()
    assert sizes["base"] < 0.31 * sizes["paper"] and sizes["whisper"] > 1e9


@pytest.mark.parametrize("name", ["paper", "default", "base", "whisper"])
def test_the_table_of_recipes_has_what_is_counted(name: str) -> None:
    lines = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8").splitlines()
    _, *cells = next(line for line in lines if line.startswith(f"| `{name}` |")).strip("| ").split(" | ")
    steps = Steps(load_recipe(name), gpu("A100 80GB"), 4)
    works = [steps.count(source, 16, 6.0) for source in ("video", "features")]
    assert cells[:2] == [f"{number / 1e6:,.1f}" for number in (steps.parameters, steps.trained_parameters)]
    assert cells[2] == " / ".join(f"{work.flops / 16 / 1e9:,.0f}" for work in works)
    assert cells[3] == " / ".join(f"{steps.peak_bytes(work) / 2**30:.1f}" for work in works)
    assert steps.batch_size == 16 and len(cells) == 7


@pytest.mark.parametrize(("layers", "is_stored"), [("last", True), ("all", False)])
def test_a_frozen_audio_encoder_can_be_stored_unless_its_layers_are_weighted(layers: str, is_stored: bool) -> None:
    steps = Steps(FROZEN.with_settings({"freeze_audio_encoder": True, "audio_layers": layers}), SLOW, 4)
    assert ("audio" in storable_sides(steps.model)) is is_stored
    assert any("could be stored as well" in each for each in steps.assumptions) is is_stored


def test_what_a_config_finds_out_is_not_counted_with_the_first_step() -> None:
    steps = Steps(FROZEN.with_settings({"audio_layers": "all"}), SLOW, 4)
    first, second = (steps.count("features", 3, 1.0) for _ in range(2))
    assert first == second


def test_spectrograms_have_the_shape_that_their_encoder_takes() -> None:
    steps = Steps(load_recipe("whisper"), gpu("H100"), 4)
    batch = steps.make_batch("features", 3, 2.01)
    assert batch["input_features"].shape == (3, 128, 202)  # frames in pairs
    assert batch["video_features"].shape == (3, 11, 1152)


@pytest.mark.parametrize("name", ["ast", "clap", "wav2vec2-bert", "parakeet", "moonshine"])
def test_other_audio_encoders_are_counted_on_input_that_they_take(name: str, tmp_path: Path) -> None:
    steps = Steps(recipe_with(OTHER_AUDIO_ENCODERS[name][0], tmp_path), SLOW, 4)
    works = [steps.count("features", 2, seconds) for seconds in (1.0, 2.0)]
    is_fixed = name in ("ast", "clap")  # they take whole windows; only the video gets longer
    assert works[1].flops < 1.05 * works[0].flops if is_fixed else works[1].flops > 1.5 * works[0].flops


def test_an_encoder_that_cannot_be_counted_is_an_error_that_says_why(tmp_path: Path) -> None:
    steps = Steps(recipe_with(OTHER_AUDIO_ENCODERS["sew-d"][0], tmp_path), SLOW, 4)
    with pytest.raises(ValueError, match=r"cannot be counted without weights: .*same device"):
        steps.count("features", 2, 1.0)


def recipe_with(audio_config: PreTrainedConfig, folder: Path) -> Recipe:
    """A recipe of an audio encoder whose configuration alone is on disk."""
    audio_config.save_pretrained(folder / "audio")
    CLIPVisionConfig(hidden_size=16, num_attention_heads=2, projection_dim=16).save_pretrained(folder / "vision")
    encoders = {"audio_encoder": str(folder / "audio"), "vision_encoder": str(folder / "vision")}
    return Recipe("other", config={"num_fusion_heads": 1}, **encoders)


def test_an_encoder_without_a_configuration_is_an_error_that_names_it(tmp_path: Path) -> None:
    recipe = load_recipe("base").with_encoders(str(tmp_path), "openai/clip-vit-base-patch32")
    with pytest.raises(OSError, match=r"No configuration of the encoder .*neither packaged .microsoft/wavlm-large"):
        config_of(recipe)


def test_the_step_of_the_base_recipe_fits_eight_gigabytes() -> None:
    machine = gpu("RTX 3070")
    steps = Steps(load_recipe("base"), machine, 4)
    assert steps.batch_size == 16
    assert steps.peak_bytes(steps.count("video", 16, 6.0)) <= machine.usable_bytes < 8 * 2**30


def test_a_gpu_is_found_by_any_spelling() -> None:
    assert gpu("rtx-3090") == gpu("RTX 3090") and len(available_gpus()) >= 10
    with pytest.raises(ValueError, match="Unknown GPU 'A1000'; expected one of T4, V100"):
        gpu("A1000")


def test_a_gpu_without_bf16_is_refused_for_bf16() -> None:
    with pytest.raises(ValueError, match=r"T4 has no bf16. Train in fp16: `--set precision=fp16`"):
        Steps(load_recipe("base"), gpu("T4"), 4)
    assert Steps(load_recipe("base").with_settings({"precision": "fp16"}), gpu("T4"), 4).precision == "fp16"


def test_this_machine_is_measured() -> None:
    machine = this_machine()
    assert min(machine.single_flops, machine.half_flops, machine.bytes_per_second, machine.usable_bytes) > 1e6
    assert "measured just now" in machine.assumptions[0]


def test_the_command_prints_its_assumptions(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["estimate", "--recipe", "tiny", "--clips", "31", "--seconds", "2.5", "--folds", "2", "--gpu", "h100"]
    words += ["--set", "freeze_vision_encoder=true"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "| 16 clips a step, fp32 | from video | from stored features |" in printed
    assert "- 31 clips with a mean of 2.5 s, log-normal" in printed and "Nothing was measured." in printed
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_folds"] == 2 and found["machine"] == "H100" and found["features"]["memory"]["peak"] > 0


def test_the_command_reads_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    release = experiment_tree(tmp_path)
    words = ["estimate", "--recipe", "tiny", "--corpus", "iemocap", "--data-dir", str(release), "--allow-partial"]
    assert main([*words, "--cache-dir", str(tmp_path / "cache"), "--by", "speaker", "--gpu", "l4", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["num_clips"] == 30 and found["num_folds"] > 3


def test_the_command_needs_a_corpus_or_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "--recipe", "tiny", "--gpu", "l4"]) == 1
    assert "Give --corpus, or --clips and --seconds" in capsys.readouterr().err
