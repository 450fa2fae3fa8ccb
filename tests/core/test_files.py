"""A file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skipgrad.core import OutputError
from skipgrad.core.files import write_text


def test_it_makes_the_folder_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    for text in ("first, and longer\n", "zweite ×\n"):
        assert write_text(path, text, doing="writing") == path
        assert path.read_text("utf-8") == text
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_failure_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "b.txt"
    path.write_text("kept")

    def full(_a: object, _b: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_text(path, "new", doing="writing")
    assert path.read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new", doing="writing")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(pipe, "through", doing="writing")
        assert os.read(reader, 100) == b"through"
        assert pipe.is_fifo()
    finally:
        os.close(reader)


def test_a_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="writing the page"):
        write_text(tmp_path, "x", doing="writing the page")
