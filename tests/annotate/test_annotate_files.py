"""Which files a job is about."""

import os
from pathlib import Path

import pytest

from foal_hf.annotate.files import list_files


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_of(*arguments: object, **keywords: object) -> list[str]:
    return [file.name for file in list_files(*arguments, **keywords)[0]]  # type: ignore[arg-type]


def test_a_folder_gives_the_media_below_it_by_name(tmp_path: Path) -> None:
    make_files(tmp_path, "b.mp4", "a/z.WAV", "a/deep/er/c.mkv", "notes.txt", ".hidden.mp4", ".cache/d.mp4", "a/._c.mkv")
    files, root = list_files(tmp_path)
    assert [file.name for file in files] == ["a/deep/er/c.mkv", "a/z.WAV", "b.mp4"]
    assert [file.path for file in files] == [str(tmp_path / file.name) for file in files]
    assert root == tmp_path


def test_all_files_takes_whatever_is_there(tmp_path: Path) -> None:
    make_files(tmp_path, "b.mp4", "recording", ".cache/d.mp4")
    assert names_of(tmp_path, all_files=True) == [".cache/d.mp4", "b.mp4", "recording"]


def test_links_to_folders_are_not_followed_round_in_a_ring(tmp_path: Path) -> None:
    make_files(tmp_path, "a/one.mp4")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    assert names_of(tmp_path) == ["a/one.mp4"]


def test_a_list_names_files_from_its_own_folder(tmp_path: Path) -> None:
    lines = ["sub/one.mp4", "", "  two.mp4  ", "./sub/one.mp4", str(tmp_path / "three.mp4"), "/elsewhere/four.mp4"]
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    files, _ = list_files(tmp_path / "list.txt")
    assert [file.name for file in files] == ["/elsewhere/four.mp4", "sub/one.mp4", "three.mp4", "two.mp4"]
    assert files[1].path == str(tmp_path / "sub/one.mp4")


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_has_its_files_in_a_column(tmp_path: Path, suffix: str, delimiter: str) -> None:
    rows = [["speaker", "file_name"], ["1", "b, or not b.mp4" if delimiter == "\t" else '"b, or not b.mp4"'], ["2", ""]]
    (tmp_path / f"list{suffix}").write_text("\n".join(delimiter.join(row) for row in rows))
    assert names_of(tmp_path / f"list{suffix}") == ["b, or not b.mp4"]


def test_paths_in_python_start_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_of(["b.mp4", Path("a.mp4"), tmp_path / "c.mp4"]) == ["a.mp4", "b.mp4", "c.mp4"]
    assert list_files(["b.mp4"], root="sub")[0] == [("b.mp4", str(tmp_path / "sub" / "b.mp4"))]


def test_a_name_that_is_no_text_is_written_with_escapes(tmp_path: Path) -> None:
    path = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4")
    Path(path).touch()
    assert list_files(tmp_path)[0] == [("caf\\xe9.mp4", path)]


def test_what_is_no_list_is_said(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("clip,emotion\n1,happy\n")
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftyp")
    with pytest.raises(FileNotFoundError, match="missing is neither a folder nor a list"):
        list_files(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"needs a column file, file_name, .* it has clip, emotion"):
        list_files(tmp_path / "table.csv")
    with pytest.raises(ValueError, match=r"film\.mp4 is no list of files"):
        list_files(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"http://host/a\.mp4 is a URL"):
        list_files(["http://host/a.mp4?token=secret"])
    with pytest.raises(ValueError, match="holds no file"):
        list_files([])
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match=r"sub holds no file with one of the suffixes .*\.mp4.*--all-files"):
        list_files(tmp_path / "sub")
