"""g2s sheet: several results on one picture."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree

from installed import Command
from PIL import Image


def test_several_results_are_one_picture(g2s: Command, out: Path, tmp_path: Path) -> None:
    copytree(out, tmp_path / "many" / "b")
    copytree(out, tmp_path / "many" / "a")
    document = g2s.json("sheet", "many", "out", "-o", "sheet.png", "--size", "32")
    assert document == {"sheet": "sheet.png", "results": ["many/a", "many/b", "out"]}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (7 * 32, 4 * 12 + 3 * 32)
    (tmp_path / "many" / "g2s-summary.json").write_text("{}")
    every = g2s.json("sheet", *sorted((tmp_path / "many").iterdir()), "-o", "every.png", "--size", "32")
    assert len(every["results"]) == 2
    command = ("sheet", "out", "-o", "sheet.png")
    assert "sheet.png exists. Add --overwrite" in g2s.fails(2, *command)
    g2s.ok(*command, "--overwrite", "--size", "32")
    assert "Name a .png file" in g2s.fails(2, "sheet", "out", "-o", "sheet.jpg")
    assert "nowhere is no g2s result folder and holds none" in g2s.fails(2, "sheet", "nowhere", "-o", "new.png")
    assert not (tmp_path / "new.png").exists()
