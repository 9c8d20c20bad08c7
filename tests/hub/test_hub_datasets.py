"""A corpus goes to the Hub: its script and card to everybody, its recordings only where the licence lets them."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub
from media_builders import make_clip

from foal_hf.corpora import scripts as corpus_scripts
from foal_hf.hub import datasets as hub_datasets
from foal_hf.hub.datasets import push_dataset


NAME = "org/toys"
CARD = "---\nlicense: cc-by-4.0\nredistribution: true\n---\n\n# Toys\n"
SCRIPT = """
from dataclasses import dataclass
from pathlib import Path

import datasets


@dataclass
class ToysConfig(datasets.BuilderConfig):
    end_seconds: float | None = None


class Toys(datasets.GeneratorBasedBuilder):
    BUILDER_CONFIG_CLASS = ToysConfig
    BUILDER_CONFIGS = [ToysConfig(name="default")]

    def _info(self):
        features = {
            "clip_id": datasets.Value("string"),
            "audio": datasets.Audio(sampling_rate=16000),
            "video": datasets.Video(),
            "start_seconds": datasets.Value("float64"),
            "end_seconds": datasets.Value("float64"),
            "crop_box": datasets.List(datasets.Value("int32"), length=4),
            "emotion": datasets.ClassLabel(names=["angry", "happy"]),
        }
        return datasets.DatasetInfo(features=datasets.Features(features))

    def _split_generators(self, dl_manager):
        files = sorted(str(path) for path in Path(self.config.data_dir).glob("*.mp4"))
        return [datasets.SplitGenerator("train", gen_kwargs={"files": files})]

    def _generate_examples(self, files):
        for index, file in enumerate(files):
            media = {"path": file, "bytes": None}
            row = {"clip_id": Path(file).stem, "audio": media, "video": media, "start_seconds": None}
            yield index, row | {"end_seconds": self.config.end_seconds, "crop_box": None, "emotion": index % 2}
"""


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short clips, of 7, 11 and 13 frames."""
    folder = tmp_path_factory.mktemp("recordings")
    for num_frames in (7, 11, 13):
        make_clip(folder / f"clip_{num_frames:02d}.mp4", "-frames:v", num_frames, "-t", num_frames / 30)
    return folder


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The folder of a corpus whose licence allows everything."""
    folder = tmp_path / "scripts" / "toys"
    (folder / "__pycache__").mkdir(parents=True)
    (folder / "__pycache__" / "build_toys.pyc").write_bytes(b"not to be pushed")
    (folder / "build_toys.py").write_text(SCRIPT)
    (folder / "README.md").write_text(CARD)
    monkeypatch.setattr(corpus_scripts, "dataset_scripts_dir", lambda: tmp_path / "scripts")
    monkeypatch.setattr(corpus_scripts, "__path__", [])
    monkeypatch.delitem(sys.modules, corpus_scripts.module_name("toys"), raising=False)
    yield folder
    sys.modules.pop(corpus_scripts.module_name("toys"), None)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        hub.serve_this_process(monkeypatch, tmp_path / "home")
        yield hub


@pytest.fixture
def data(recordings: Path, tmp_path: Path) -> dict[str, object]:
    """The arguments that push recordings."""
    return {"with_data": True, "data_dir": recordings, "cache_dir": tmp_path / "datasets"}


def load_in_a_new_process(hub: LoopbackHub, home: Path, *, token: str | None = None, **settings: str) -> dict:
    """What somebody finds who has `datasets` and the name of the repository."""
    code = f"""
        import json
        from datasets import load_dataset
        rows = load_dataset({NAME!r}, split="train")
        frames = [row["video"].metadata.num_frames for row in rows]
        rates = [row["audio"].get_all_samples().sample_rate for row in rows]
        emotions = [rows.features["emotion"].int2str(row["emotion"]) for row in rows]
        print(json.dumps({{"ids": rows["clip_id"][:], "frames": frames, "rates": rates, "emotions": emotions}}))
    """
    environment = hub.environment(home, **({"token": token} if token else {})) | settings
    command = [sys.executable, "-c", textwrap.dedent(code)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def test_the_script_and_the_card_make_one_commit_and_nothing_else_goes_along(hub: LoopbackHub, scripts: Path) -> None:
    result = push_dataset("toys", NAME)
    assert result.files == [("README.md", len(CARD)), ("build_toys.py", len(SCRIPT))]
    assert result.changed and result.commit_url.startswith(f"{hub.url}/datasets/{NAME}/commit/")
    assert hub.titles("dataset", NAME) == ["Add the loading script of toys"]
    assert hub.files("dataset", NAME) == {"README.md": CARD.encode(), "build_toys.py": SCRIPT.encode()}
    assert not push_dataset("toys", NAME).changed


def test_a_dry_run_lists_the_files_and_asks_nobody(hub: LoopbackHub, scripts: Path, data: dict[str, object]) -> None:
    assert [path for path, _ in push_dataset("toys", NAME, dry_run=True).files] == ["README.md", "build_toys.py"]
    result = push_dataset("toys", NAME, dry_run=True, **data)
    sizes = dict(result.files)
    assert list(sizes) == ["README.md", "build_toys.py", "data/train-00000-of-00001.parquet"]
    recorded = sum(file.stat().st_size for file in data["data_dir"].iterdir())
    assert sizes["data/train-00000-of-00001.parquet"] > recorded and not result.changed
    assert hub.requests == []


def test_recordings_come_back_in_a_new_process_and_then_without_the_hub(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], recordings: Path, tmp_path: Path
) -> None:
    result = push_dataset("toys", NAME, **data)
    assert hub.repositories["dataset", NAME].private and hub.titles("dataset", NAME) == ["Add the toys corpus"]
    assert [path for path, _ in result.files][-1] == "data/train-00000-of-00001.parquet"
    expected = {
        "ids": ["clip_07", "clip_11", "clip_13"],
        "frames": [7, 11, 13],
        "rates": [16000] * 3,
        "emotions": ["angry", "happy", "angry"],
    }
    assert load_in_a_new_process(hub, tmp_path / "reader") == expected
    hub.forget_requests()
    assert load_in_a_new_process(hub, tmp_path / "reader", HF_HUB_OFFLINE="1") == expected
    assert hub.requests == []


def test_no_path_of_this_machine_is_pushed(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], recordings: Path, tmp_path: Path
) -> None:
    push_dataset("toys", NAME, **data)
    for content in hub.files("dataset", NAME).values():
        assert str(recordings).encode() not in content and str(tmp_path).encode() not in content
    assert b"clip_07.mp4" in hub.files("dataset", NAME)["data/train-00000-of-00001.parquet"]


def test_many_recordings_make_several_files_and_a_smaller_push_leaves_none_behind(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = sum(2 * file.stat().st_size for file in data["data_dir"].iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(hub_datasets, "_SHARD_BYTES", embedded // 2 + 1)
        push_dataset("toys", NAME, **data)
    shards = {f"data/train-0000{index}-of-00002.parquet" for index in range(2)}
    assert set(hub.files("dataset", NAME)) == {"README.md", "build_toys.py", *shards}
    push_dataset("toys", NAME, **data)
    assert set(hub.files("dataset", NAME)) == {"README.md", "build_toys.py", "data/train-00000-of-00001.parquet"}
    assert len(hub.titles("dataset", NAME)) == 2


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("license: other\nlicense_name: signed-by-each-user\nredistribution: false\n", "signed-by-each-user"),
        ("license: cc-by-4.0\n", r"does not have `redistribution: true`, .*cc-by-4\.0"),
        ("redistribution: 'yes'\n", "does not have"),
        ("redistribution: false\nredistribution_reason: each user signs for themselves\n", "each user signs"),
        ("", "not named"),
    ],
)
def test_recordings_stay_where_the_card_does_not_allow_to_pass_them_on(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], header: str, reason: str
) -> None:
    (scripts / "README.md").write_text(f"---\n{header}---\n\n# Toys\n" if header else "# Toys\n")
    with pytest.raises(PermissionError, match=reason) as caught:
        push_dataset("toys", NAME, private=True, **data)
    assert "without data" in str(caught.value)
    assert hub.requests == []
    assert push_dataset("toys", NAME).changed


def test_recordings_do_not_go_to_a_public_repository(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="private=False"):
        push_dataset("toys", NAME, private=False, **data)
    hub.create("dataset", NAME)
    with pytest.raises(PermissionError, match="is public"):
        push_dataset("toys", NAME, **data)
    # Somebody makes it public after the first look.
    monkeypatch.setattr(hub_datasets, "_check_private", lambda *arguments, **options: True)
    with pytest.raises(PermissionError, match="is public"):
        push_dataset("toys", NAME, **data)
    assert hub.files("dataset", NAME) == {} and hub.asked("PUT") == []


def test_without_a_token_no_recording_is_read(
    hub: LoopbackHub, scripts: Path, data: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(hub_datasets, "_write_data", lambda *arguments: pytest.fail("read the recordings"))
    with pytest.raises(PermissionError, match="hf auth login"):
        push_dataset("toys", NAME, **data)


def test_rows_that_are_parts_of_a_recording_are_refused(
    hub: LoopbackHub, scripts: Path, data: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match=r"end_seconds are set.*materialize=True"):
        push_dataset("toys", NAME, end_seconds=0.1, **data)
    assert ("dataset", NAME) not in hub.repositories


def test_a_push_with_data_that_breaks_off_publishes_nothing_and_can_be_repeated(
    hub: LoopbackHub, scripts: Path, data: dict[str, object]
) -> None:
    hub.cut_next("reading", times=6, method="PUT")
    with pytest.raises(RuntimeError, match="Push again"):
        push_dataset("toys", NAME, **data)
    assert hub.files("dataset", NAME) == {} and hub.repositories["dataset", NAME].private
    hub.plan_no_failures()
    assert push_dataset("toys", NAME, **data).changed
    assert len(hub.files("dataset", NAME)) == 3


def test_a_branch_of_its_own(hub: LoopbackHub, scripts: Path) -> None:
    assert push_dataset("toys", NAME, revision="v1", private=True).revision == "v1"
    assert hub.files("dataset", NAME) == {} and len(hub.files("dataset", NAME, "v1")) == 2
    assert hub.repositories["dataset", NAME].private


def test_misuse_is_said(hub: LoopbackHub, scripts: Path, recordings: Path) -> None:
    with pytest.raises(ValueError, match=r"Unknown corpus '.*'; expected one with a loading script: toys"):
        push_dataset("tois", NAME)
    with pytest.raises(ValueError, match="data_dir: only valid with"):
        push_dataset("toys", NAME, data_dir=recordings)
    with pytest.raises(ValueError, match="such as 'org/toys'"):
        push_dataset("toys", "org/build_toys")
    (scripts / "README.md").unlink()
    with pytest.raises(FileNotFoundError, match="no dataset card"):
        push_dataset("toys", NAME)
    assert hub.requests == []
