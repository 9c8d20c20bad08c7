"""`foal-hf annotate`: exit codes and what it prints."""

import json
from pathlib import Path

import pytest
from media_builders import make_clip

from foal_hf.cli import main


@pytest.mark.slow
def test_the_exit_code_is_1_as_long_as_a_file_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "bad.wav").write_bytes(b"\0" * 101)
    (archive / "notes.txt").touch()
    words = ["annotate", "archive", "--num-workers", "1"]
    assert main(words) == 1
    printed = capsys.readouterr()
    assert "1 files: 0 done, 1 failed, 0 pending; 1 of them in this run" in printed.out
    assert "Skipped in the folder: 1 suffix .txt (--all-files tries every file)" in printed.err
    assert "--retry-failed retries them" in printed.err
    make_clip(archive / "bad.wav", video=None, audio="sine=frequency=300:sample_rate=16000:duration=1.2")
    assert main([*words, "--json", "--quiet"]) == 0
    printed = capsys.readouterr()
    summary = json.loads(printed.out)
    assert (summary["num_done"], summary["num_failed"], summary["skipped"]) == (1, 0, {"suffix .txt": 1})
    assert printed.err == ""
