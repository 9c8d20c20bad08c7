"""The files of a job: from folders, lists, tables, and paths in Python."""

import os
from pathlib import Path
from typing import Any

import pytest

from foal_hf.annotate.files import list_files


def make_files(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names_of(*arguments: Any, **keywords: Any) -> list[str]:
    return [file.name for file in list_files(*arguments, **keywords).files]


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="surrogateescape")
    return path


# Folders


def test_a_folder_gives_the_media_below_it_by_name_and_counts_the_rest(tmp_path: Path) -> None:
    make_files(tmp_path, "b.mp4", "a/z.WAV", "a/deep/er/c.mkv", "notes.txt", "a/more.txt", "README")
    make_files(tmp_path, ".hidden.mp4", ".cache/d.mp4", "a/._c.mkv")
    listed = list_files(tmp_path)
    assert [file.name for file in listed.files] == ["a/deep/er/c.mkv", "a/z.WAV", "b.mp4"]
    assert [file.path for file in listed.files] == [str(tmp_path / file.name) for file in listed.files]
    assert listed.root == tmp_path
    assert listed.skipped == {"hidden": 3, "no suffix": 1, "suffix .txt": 2}


def test_all_files_takes_every_file(tmp_path: Path) -> None:
    make_files(tmp_path, "b.mp4", "recording", ".cache/d.mp4")
    listed = list_files(tmp_path, all_files=True)
    assert [file.name for file in listed.files] == [".cache/d.mp4", "b.mp4", "recording"]
    assert listed.skipped == {}


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    make_files(tmp_path / "archive", "a/one.mp4")
    make_files(tmp_path / "elsewhere", "two.mp4", "deep/three.mp4")
    (tmp_path / "archive" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "archive" / "a" / "again").symlink_to(tmp_path / "archive")
    (tmp_path / "elsewhere" / "self").symlink_to("self")
    listed = list_files(tmp_path / "archive")
    assert [file.name for file in listed.files] == ["a/one.mp4", "linked/deep/three.mp4", "linked/two.mp4"]
    assert listed.skipped == {"link to a folder that it lies in": 1, "no suffix": 1}


def test_a_folder_that_cannot_be_listed_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_files(tmp_path, "a.mp4", "closed/b.mp4")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listed = list_files(tmp_path)
    assert [file.name for file in listed.files] == ["a.mp4"]
    assert listed.skipped == {"folder that cannot be read (Permission denied)": 1}


def test_outputs_are_no_part_of_the_folder(tmp_path: Path) -> None:
    make_files(tmp_path, "a.mp4", "results.parquet", "results.job/claims")
    outputs = [tmp_path / "results.parquet", tmp_path / "results.job"]
    listed = list_files(tmp_path, all_files=True, outputs=outputs)
    assert ([file.name for file in listed.files], listed.skipped) == (["a.mp4"], {})


# Lists and tables


def test_a_list_names_files_from_its_own_folder(tmp_path: Path) -> None:
    lines = ["sub/one.mp4", "", "  two.mp4  ", "./sub/one.mp4", str(tmp_path / "three.mp4"), "/elsewhere/four.mp4\r"]
    listed = list_files(write(tmp_path / "list.txt", *lines))
    assert [file.name for file in listed.files] == ["/elsewhere/four.mp4", "sub/one.mp4", "three.mp4", "two.mp4"]
    assert listed.files[1].path == str(tmp_path / "sub/one.mp4")


def test_comments_of_a_list_are_skipped_unless_there_is_such_a_file(tmp_path: Path) -> None:
    make_files(tmp_path, "#1 take.mp4")
    assert names_of(write(tmp_path / "list.txt", "# my clips", "#1 take.mp4", "a#b.mp4")) == ["#1 take.mp4", "a#b.mp4"]


def test_backslashes_of_windows_are_separators_unless_they_belong_to_a_name(tmp_path: Path) -> None:
    make_files(tmp_path, "sub/one.mp4", r"sub\two.mp4")
    listed = list_files(write(tmp_path / "list.txt", r"sub\one.mp4", r"sub\two.mp4", r"sub\missing.mp4"))
    assert [file.name for file in listed.files] == ["sub/one.mp4", r"sub\missing.mp4", r"sub\two.mp4"]


def test_names_of_a_list_may_have_separators_of_lines_that_are_none(tmp_path: Path) -> None:
    assert names_of(write(tmp_path / "list.txt", "a\u2028b.mp4", "c\x0bd.mp4")) == ["a\u2028b.mp4", "c\x0bd.mp4"]
    assert names_of(write(tmp_path / "list.csv", "file", "a\u2028b.mp4", "c\x0bd.mp4")) == [
        "a\u2028b.mp4",
        "c\x0bd.mp4",
    ]


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_has_its_files_in_a_column(tmp_path: Path, suffix: str, delimiter: str) -> None:
    rows = [["speaker", "file_name"], ["1", "b, or not b.mp4" if delimiter == "\t" else '"b, or not b.mp4"'], ["2", ""]]
    path = write(tmp_path / f"list{suffix}", "# a comment", *(delimiter.join(row) for row in rows))
    assert names_of(path) == ["b, or not b.mp4"]


def test_a_table_may_have_ranges_and_blanks_after_commas(tmp_path: Path) -> None:
    rows = ["a.mp4, 6, 9", "a.mp4, 0, 2.5", "a.mp4, , 4", 'b.mp4, "3", ', "a.mp4, 0, 2.5", "a.mp4"]
    listed = list_files(write(tmp_path / "list.csv", "file, start_seconds, end_seconds", *rows))
    assert [(file.name, file.start_seconds, file.end_seconds) for file in listed.files] == [
        ("a.mp4", 0.0, 2.5),
        ("a.mp4", None, 4.0),
        ("a.mp4", None, None),
        ("a.mp4", 6.0, 9.0),
        ("b.mp4", 3.0, None),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["clip,emotion", "1,happy"], r"unknown columns clip; expected some of .*start_seconds"),
        (["file,strat_seconds", "a.mp4,1"], r"unknown columns strat_seconds"),
        (["emotion", "happy"], r"exactly one column of files, one of file, file_name, .*; it has emotion"),
        (["audio,video", "a.wav,a.mp4"], r"exactly one column of files, .*; it has video and audio"),
        (["file,crop_box", 'a.mp4,"[0, 0, 1, 1]"'], r"row 1 sets crop_box, which lists do not support"),
        (["file,start_seconds", "a.mp4,", "b.mp4,0:03"], r"row 2: `start_seconds` must be a number .*'0:03'"),
        (["file,start_seconds,end_seconds", "a.mp4,3,3"], r"row 1: expected 0 <= start_seconds < .*got 3 and 3"),
        (["file,start_seconds", "a.mp4,-1"], r"row 1: expected 0 <= start_seconds"),
        (["file,start_seconds", "a.mp4,nan"], r"row 1: expected 0 <= start_seconds"),
        (["file", "a, b.mp4"], r"row 1 has more cells than columns; put a name with a ',' in quotes"),
    ],
)
def test_a_wrong_table_is_refused_with_its_row(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"list\.csv.*{message}"):
        list_files(write(tmp_path / "list.csv", *lines))


@pytest.mark.parametrize(
    ("ending", "separator", "message"),
    [
        (".csv", ";", "has semicolons between its columns; it needs commas"),
        (".csv", "\t", "has tabs between its columns; it needs commas"),
        (".tsv", ",", "has commas between its columns; it needs tabs"),
    ],
)
def test_a_table_with_another_separator_is_refused_with_its_name(
    tmp_path: Path, ending: str, separator: str, message: str
) -> None:
    lines = [separator.join(row) for row in (("file", "start_seconds"), ("a.mp4", "1"))]
    with pytest.raises(ValueError, match=message):
        list_files(write(tmp_path / f"list{ending}", *lines))


# Paths and names


def test_paths_in_python_start_at_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_of(["b.mp4", Path("a.mp4"), tmp_path / "c.mp4"]) == ["a.mp4", "b.mp4", "c.mp4"]
    assert list_files(["b.mp4"], root="sub").files == [("b.mp4", str(tmp_path / "sub" / "b.mp4"), None, None)]


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    path = os.fsdecode(bytes(tmp_path) + b"/caf\xe9.mp4")
    Path(path).touch()
    assert list_files(tmp_path).files == [("caf\\xe9.mp4", path, None, None)]
    assert list_files(write(tmp_path / "list.txt", "caf\udce9.mp4")).files == [("caf\\xe9.mp4", path, None, None)]
    (tmp_path / "caf\\xe9.mp4").touch()
    with pytest.raises(ValueError, match=r"Two files have the name 'caf\\\\xe9.mp4'"):
        list_files(tmp_path)


def test_sources_without_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\0\0\0\x18ftyp")
    with pytest.raises(FileNotFoundError, match="missing does not exist; expected a folder or a list"):
        list_files(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"film\.mp4 is not a list of files"):
        list_files(tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"http://host/a\.mp4 is a URL"):
        list_files(["http://host/a.mp4?token=secret"])
    with pytest.raises(ValueError, match="has no files"):
        list_files([])
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match=r"sub has no files with one of the suffixes .*\.mp4.*--all-files"):
        list_files(tmp_path / "sub")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_list_in_utf_16_is_named_as_such(tmp_path: Path, encoding: str) -> None:
    mark = "" if encoding == "utf-16" else "\ufeff"
    (tmp_path / "list.csv").write_bytes(f"{mark}file\na.wav\n".encode(encoding))
    with pytest.raises(ValueError, match=r"list\.csv is UTF-16; save it as UTF-8"):
        list_files(tmp_path / "list.csv", root=None, all_files=False, outputs=[])
