"""The same job on Ray, here with two actors on one machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
from media_builders import make_clip
from requirements import need
from tiny_models import tiny_model
from tiny_processors import tiny_processor

from foal_hf import AudioVideoEmotionPipeline
from foal_hf.annotate import annotate


# In a process of its own, for Ray starts servers and leaves settings behind.
SCRIPT = """
import json, os, sys
import ray
from foal_hf.annotate import annotate

ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
settings = {"engine": "ray", "num_workers": 1, "num_actors": 2, "batch_size": 2, "progress": False}
found = []
for _ in range(2):
    summary = annotate("archive", "ray.parquet", model="checkpoint", **settings)
    found.append([summary.num_annotated, summary.num_done, summary.num_failed])
print(json.dumps(found))
ray.shutdown()
"""


@pytest.mark.slow
def test_ray_gives_what_one_machine_gives(tmp_path: Path) -> None:
    need("ray")
    for number in range(7):
        tone = f"sine=frequency={200 + 97 * number}:sample_rate=16000:duration=1"
        color = f"color=c=0x{number * 30:02x}4080:s=62x46:r=30:d=1"
        (tmp_path / "archive" / "sub").mkdir(parents=True, exist_ok=True)
        make_clip(tmp_path / "archive" / "sub" / f"clip-{number}.mp4", video=color, audio=tone)
    (tmp_path / "archive" / "broken.mp4").write_bytes(b"\0" * 101)
    model = tiny_model()
    model.save_pretrained(tmp_path / "checkpoint")
    tiny_processor().save_pretrained(tmp_path / "checkpoint")
    environment = {**os.environ, "HOME": str(tmp_path), "RAY_USAGE_STATS_ENABLED": "0"}  # Ray keeps a token at home
    finished = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == [[8, 7, 1], [0, 7, 1]]

    classify = AudioVideoEmotionPipeline(model=model.eval(), processor=tiny_processor())
    settings = {"num_workers": 1, "progress": False}
    annotate(tmp_path / "archive", tmp_path / "local.parquet", model=classify, **settings)
    on_ray, local = (pyarrow.parquet.read_table(tmp_path / f"{name}.parquet").to_pylist() for name in ("ray", "local"))
    assert len(on_ray) == 7
    for row, other in zip(on_ray, local, strict=True):
        names = [name for name in row if name.startswith("score")]
        assert [row.pop(name) for name in names] == pytest.approx([other.pop(name) for name in names], abs=1e-5)
        assert row == other
    # Either engine goes on where the other has stopped.
    assert annotate(tmp_path / "archive", tmp_path / "ray.parquet", model=classify, **settings).num_annotated == 0


def test_without_ray_it_is_said_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(ImportError, match=r"pip install 'foal-hf\[ray\]'"):
        annotate(tmp_path, tmp_path / "results.parquet", engine="ray", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
