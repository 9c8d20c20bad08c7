"""A checkpoint goes to the Hub and comes back, with the package and without it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bare_environment import make_bare_environment
from loopback_hub import LoopbackHub
from media_builders import make_clip
from requirements import need
from safetensors.torch import load_file
from with_torchvision import TORCHVISION, WITH_TORCHVISION

from foal_hf import TINY_CHECKPOINT
from foal_hf.foal_net.checkpoint_foal_net import AUTO_MAP


CODE = {path.name for path in (Path(__file__).parents[2] / "foal_hf" / "foal_net").glob("*_foal_net.py")}
CHECKPOINT = {"config.json", "model.safetensors", "processor_config.json"}
REPOSITORIES = ("org/parts", "org/pipe", "org/whole", "org/trained")

# Pushes one checkpoint in every way there is, and prints what it gives here.
PUSH = """
import json, sys
import foal_hf, torch
from transformers import AutoModelForVideoClassification, AutoProcessor, Trainer, TrainingArguments, pipeline

checkpoint, clip, folder = sys.argv[1:]
model = AutoModelForVideoClassification.from_pretrained(checkpoint)
processor = AutoProcessor.from_pretrained(checkpoint)
model.push_to_hub("org/parts")
processor.push_to_hub("org/parts")
classify = pipeline("audio-video-emotion", model=model, processor=processor)
classify.push_to_hub("org/pipe", private=True)
foal_hf.push_checkpoint(checkpoint, "org/whole")
arguments = TrainingArguments(folder, hub_model_id="org/trained", use_cpu=True, report_to=[])
Trainer(model=model, args=arguments, processing_class=processor).push_to_hub()
inputs = processor(videos=clip, load_audio_from_video=True)
with torch.no_grad():
    print(json.dumps({"logits": model.eval()(**inputs).logits.tolist(), "answer": classify(clip)}))
"""

# Loads by name, for those who have transformers alone, and prints what it gives there.
LOAD = """
import json, sys
import torch
from transformers import (
    AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForAudioClassification, AutoModelForVideoClassification,
    AutoProcessor, pipeline,
)

clip, save_to, *names = sys.argv[1:]
results = {}
for name in names:
    config = AutoConfig.from_pretrained(name, trust_remote_code=True)
    model = AutoModelForVideoClassification.from_pretrained(name, trust_remote_code=True)
    processor = AutoProcessor.from_pretrained(name, trust_remote_code=True)
    inputs = processor(videos=clip, load_audio_from_video=True)
    with torch.no_grad():
        logits = model(**inputs).logits
        again = AutoModelForAudioClassification.from_pretrained(name, trust_remote_code=True)(**inputs).logits
        embeds = AutoModel.from_pretrained(name, trust_remote_code=True)(**inputs).audio_embeds
    classify = pipeline("audio-video-emotion", model=name, trust_remote_code=True)
    results[name] = {
        "logits": logits.tolist(),
        "same": bool(torch.equal(logits, again)),
        "embeds": list(embeds.shape),
        "answer": classify(clip),
        "inferred": type(pipeline(model=name, trust_remote_code=True)).__name__,
        "labels": config.id2label,
        "sampling_rate": AutoFeatureExtractor.from_pretrained(name).sampling_rate,
        "modules": sorted({type(part).__module__.split(".")[0] for part in (config, model, processor, classify)}),
    }
if save_to:
    model.save_pretrained(save_to)
    processor.save_pretrained(save_to)
print(json.dumps(results))
"""

# Loads by name with the package imported, which asks for no trust.
LOAD_WITH_PACKAGE = """
import json, sys
import foal_hf
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline

clip, *names = sys.argv[1:]
results = {}
for name in names:
    classify = pipeline("audio-video-emotion", model=name)
    parts = (AutoConfig.from_pretrained(name), AutoModel.from_pretrained(name), AutoProcessor.from_pretrained(name))
    modules = sorted({type(part).__module__.split(".")[0] for part in (classify, classify.model, *parts)})
    results[name] = {"answer": classify(clip), "modules": modules}
print(json.dumps(results))
"""


def run(python: Any, script: str, *arguments: Any, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-c", script, *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)


def answers(finished: subprocess.CompletedProcess[str]) -> Any:
    """What a script printed last."""
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Hub with one checkpoint pushed in four ways, a clip, and an environment without the package."""
    folder = tmp_path_factory.mktemp("world")
    with LoopbackHub() as hub:
        clip = make_clip(folder / "clip.mp4")
        arguments = (TINY_CHECKPOINT, clip, folder / "trainer")
        pushed = run(sys.executable, PUSH, *arguments, env=hub.environment(folder / "home"), cwd=folder)
        yield SimpleNamespace(
            hub=hub,
            clip=clip,
            folder=folder,
            expected=answers(pushed),
            said=pushed.stdout + pushed.stderr,
            python=make_bare_environment(folder / "bare"),
            environment=hub.environment(folder / "cache"),
        )


@pytest.fixture(scope="module")
def loaded(world: SimpleNamespace) -> dict[str, Any]:
    """What a fresh process without the package makes of them; it leaves a cache and a saved copy behind."""
    arguments = (world.clip, world.folder / "again", *REPOSITORIES)
    return answers(run(world.python, LOAD, *arguments, env=world.environment, cwd=world.folder))


def assert_same(result: dict[str, Any], expected: dict[str, Any]) -> None:
    assert result["logits"][0] == pytest.approx(expected["logits"][0], abs=1e-6)
    assert [entry["label"] for entry in result["answer"]] == [entry["label"] for entry in expected["answer"]]
    scores = [entry["score"] for entry in expected["answer"]]
    assert [entry["score"] for entry in result["answer"]] == pytest.approx(scores, abs=1e-6)


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_pushed_repository_holds_everything_and_nothing_stale(world: SimpleNamespace, name: str) -> None:
    files = world.hub.files("model", name)
    extra = {"org/trained": {"training_args.bin"}, "org/whole": {"results.json"}}  # the first is Trainer's own
    assert set(files) == CHECKPOINT | CODE | {"README.md"} | extra.get(name, set())
    config = json.loads(files["config.json"])
    assert config["auto_map"] == AUTO_MAP
    modules = {name.split(".")[0] for name in AUTO_MAP.values()}
    modules |= {entry["impl"].split(".")[0] for entry in config["custom_pipelines"].values()}
    assert {f"{module}.py" for module in modules} <= set(files)
    assert json.loads(files["processor_config.json"])["auto_map"] == {"AutoProcessor": AUTO_MAP["AutoProcessor"]}


@pytest.mark.parametrize("name", REPOSITORIES)
def test_nothing_of_this_machine_is_pushed(world: SimpleNamespace, name: str) -> None:
    for path, content in world.hub.files("model", name).items():
        for secret in (str(world.folder), str(TINY_CHECKPOINT.parent), world.environment["HF_TOKEN"]):
            if path != "training_args.bin":
                assert secret.encode() not in content, f"{secret} is in {path}"


def test_the_token_is_never_printed(world: SimpleNamespace) -> None:
    assert world.environment["HF_TOKEN"] not in world.said


def test_each_push_is_one_commit(world: SimpleNamespace) -> None:
    assert [len(world.hub.titles("model", name)) for name in ("org/whole", "org/pipe", "org/parts")] == [1, 1, 2]
    assert world.hub.repositories["model", "org/pipe"].private


@pytest.mark.parametrize("name", REPOSITORIES)
def test_a_fresh_process_without_the_package_gets_the_same_answers(
    world: SimpleNamespace, loaded: dict[str, Any], name: str
) -> None:
    result = loaded[name]
    assert_same(result, world.expected)
    assert result["same"] and result["embeds"] == [1, 64]
    assert result["inferred"] == "AudioVideoEmotionPipeline"
    assert result["labels"] == {"0": "happy", "1": "neutral", "2": "sad", "3": "angry"}
    assert result["sampling_rate"] == 16_000
    assert result["modules"] == ["transformers_modules"]


def test_it_works_offline_from_the_cache(world: SimpleNamespace, loaded: dict[str, Any]) -> None:
    world.hub.forget_requests()
    env = {**world.environment, "HF_HUB_OFFLINE": "1"}
    result = answers(run(world.python, LOAD, world.clip, "", "org/whole", env=env, cwd=world.folder))
    assert_same(result["org/whole"], world.expected)
    assert world.hub.requests == []


def test_what_was_loaded_from_the_hub_can_be_saved_again_with_its_code(
    world: SimpleNamespace, loaded: dict[str, Any]
) -> None:
    again = world.folder / "again"
    assert {path.name for path in again.iterdir()} == CHECKPOINT | CODE
    for name in CODE | CHECKPOINT - {"config.json"}:
        assert (again / name).read_bytes() == world.hub.files("model", "org/whole")[name], name
    env = {**world.environment, "HF_HOME": str(world.folder / "other"), "HF_HUB_OFFLINE": "1"}
    result = answers(run(world.python, LOAD, world.clip, "", again, env=env, cwd=world.folder))
    assert_same(result[str(again)], world.expected)


def test_torchvision_changes_nothing_for_those_without_the_package(
    world: SimpleNamespace, loaded: dict[str, Any]
) -> None:
    need("torchvision")
    look = """
video_processor = AutoVideoProcessor.from_pretrained("org/whole", trust_remote_code=True)
assert type(video_processor).__name__ == "FoalNetVideoProcessor"
"""
    env = {**world.environment, "PYTHONPATH": str(TORCHVISION)}
    script = WITH_TORCHVISION + look + LOAD
    result = answers(run(world.python, script, world.clip, "", "org/whole", env=env, cwd=world.folder))
    assert_same(result["org/whole"], world.expected)


def test_with_the_package_nobody_has_to_trust_remote_code(world: SimpleNamespace, loaded: dict[str, Any]) -> None:
    names = [*REPOSITORIES, world.folder / "again"]
    env = world.environment
    results = answers(run(sys.executable, LOAD_WITH_PACKAGE, world.clip, *names, env=env, cwd=world.folder))
    for result in results.values():
        assert result["modules"] == ["foal_hf"]
        assert result["answer"] == world.expected["answer"]


@pytest.mark.parametrize("block", [0, 1, 2])
def test_the_examples_of_the_card_run_as_they_stand(world: SimpleNamespace, loaded: dict[str, Any], block: int) -> None:
    examples = re.findall(
        r"```python\n(.*?)```", world.hub.files("model", "org/whole")["README.md"].decode(), re.DOTALL
    )
    assert len(examples) == 3 and all("org/whole" in example for example in examples)
    has_package = "import foal_hf" in examples[block]
    assert has_package == ("trust_remote_code" not in examples[block])
    python = sys.executable if has_package else world.python
    finished = run(python, examples[block], env=world.environment, cwd=world.folder)  # a folder with clip.mp4
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith(("[{'label': ", "torch.Size([1, 64])"))


def test_without_trust_the_code_of_the_hub_is_not_run(world: SimpleNamespace, loaded: dict[str, Any]) -> None:
    script = LOAD.replace("trust_remote_code=True", "trust_remote_code=False")
    finished = run(world.python, script, world.clip, "", "org/whole", env=world.environment, cwd=world.folder)
    assert finished.returncode == 1
    assert "trust_remote_code=True" in finished.stderr.splitlines()[-1]


def test_the_weights_on_the_hub_are_those_of_the_checkpoint(world: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(world.hub.files("model", "org/trained")["model.safetensors"]))
    pushed, original = load_file(path), load_file(TINY_CHECKPOINT / "model.safetensors")
    assert pushed.keys() == original.keys()
    assert all(pushed[name].equal(original[name]) for name in original)
    assert os.path.getsize(path) > 10**6
