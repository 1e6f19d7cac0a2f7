"""Every command and snippet of README and docs is run, or read by its program."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from helpers_docs import MARK, PAGES, PLAIN, ROOT, blocks, commands
from helpers_parse import check
from helpers_run import TINY, read_lines

from dynamic_atss import commands as program
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.errors import UserError

R_50 = "configs/atss/atss_R_50_FPN_1x.yaml"
QUICK = {
    "(64, 96)": "(64,)",
    "96": "64",
    "MAX_ITER: 6": "MAX_ITER: 2",
    "(4,)": "(1,)",
    "WARMUP_ITERS: 2": "WARMUP_ITERS: 1",
    "CHECKPOINT_PERIOD: 2": "CHECKPOINT_PERIOD: 1",
    "NUM_CONVS: 1": "NUM_CONVS: 1\n    INFERENCE_TH: 0.001",  # something is found
}


def call(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command of `dynamic-atss` in this process; fails unless its exit code is 0."""
    assert words[0] == "dynamic-atss", words
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code in (0, None), words
    if "OUTPUT_DIR" in words and words[1] == "train":
        run = Path(words[words.index("OUTPUT_DIR") + 1])
        assert all(line["positives"] > 0 for line in read_lines(run) if "loss" in line)


@pytest.fixture(scope="module")
def example_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages call by name: a run, a data set, a picture, and a tiny configuration in place
    of the one for own data."""
    folder = tmp_path_factory.mktemp("example_folder")
    make_shapes(folder / "datasets/shapes", train=6, val=2, size=64)
    shapes, mine = folder / "datasets/shapes", folder / "my"
    shutil.copytree(shapes / "train", mine / "images")
    shutil.copytree(shapes / "val", mine / "images", dirs_exist_ok=True)
    for split in ("train", "val"):
        shutil.copy(shapes / "annotations" / f"{split}.json", mine / f"{split}.json")
    shutil.copy(next((mine / "images").glob("*.jpg")), folder / "image.jpg")
    demo = folder / "output/demo/datasets/shapes"
    shutil.copytree(shapes, demo)
    shutil.copy(folder / "image.jpg", demo / "val/000007.jpg")  # whose name the README gives
    (folder / "examples").symlink_to(ROOT / "examples")
    config = folder / "configs/quickstart/own_data.yaml"
    config.parent.mkdir(parents=True)
    text = TINY
    for long, short in QUICK.items():
        text = text.replace(long, short)
    config.write_text(text)
    (config.parent / "shapes_R_18.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        train = ["train", "--config-file", str(config), "OUTPUT_DIR", "output/demo/run"]
        call(["dynamic-atss", *train], monkeypatch)
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "dynamic-atss train --config-file configs/atss/none.yaml",
        f"dynamic-atss train --config-file {R_50} MODEL.ASSIGNER.NAME no",
        f"dynamic-atss train --config-file {R_50} SOLVER.BASE_LR -1",
        "dynamic-atss train SOLVER.MAX_ITERS 3",
        "dynamic-atss predict --weights run --input a.jpg --set FOO.BAR 1",
        "dynamic-atss launch --nproc-per-node 8 trai --config-file configs/atss/none.yaml",
        "torchrun --nproc-per-node 8 tools/none.py",
        "pip install 'dynamic_atss[none]'",
        "make none",
        "none at all",
    ],
)
def test_a_command_that_would_not_start_is_found(command, monkeypatch):
    with pytest.raises((AssertionError, UserError)):
        check(commands(command)[0], monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_works(page, example_folder, tmp_path, monkeypatch):
    shutil.copytree(example_folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.mode == "file":
            Path(block.what).write_text(block.code)
            compile(block.code, block.what, "exec")
        elif block.mode == "parse" and block.language == "python":
            compile(block.code, where, "exec")
        elif block.mode == "parse":
            for words in commands(block.code):
                with pytest.MonkeyPatch.context() as patch:
                    check(words, patch)
        elif block.mode == "run" and block.language == "python":
            exec(compile(block.code, where, "exec"), {"__name__": "page"})
        elif block.mode == "run":
            for words in commands(block.code):
                call(words, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_two_trainings_of_a_page_have_the_same_folder(page):
    """The second one would be refused."""
    folders = []
    for block in blocks(page):
        for words in commands(block.code) if block.language == "bash" else ():
            config = words.index("--config-file") + 1 if "--config-file" in words else 0
            trains = words[:2] in (["dynamic-atss", "train"], ["python", "tools/train_net.py"])
            if trains and config and not {"--resume", "--help"} & {*words}:
                given = words.index("OUTPUT_DIR") + 1 if "OUTPUT_DIR" in words else config
                folders.append(words[given])
    assert len(folders) == len({*folders}), folders


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page):
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        assert block.language in ("bash", "python", *PLAIN), where
        assert (block.mode == "") == (block.language in PLAIN), where
        assert (block.mode in ("file", "skip")) == bool(block.what), f"{where}: a name or a reason"
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if MARK.match(line):
            assert lines[number + 1].startswith("```"), f"{page.name}:{number + 1}: above no block"
