"""Names of data sets: catalog, formats, and errors."""

import shutil

import pytest
from helpers_data import box, voc_object, write_coco, write_voc

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.errors import UserError

LAYOUT = {
    "coco_2017_train": ("instances_train2017.json", "train2017"),
    "coco_2017_val": ("instances_val2017.json", "val2017"),
    "coco_2017_test_dev": ("image_info_test-dev2017.json", "test2017"),
    "coco_2014_minival": ("instances_minival2014.json", "val2014"),
    "coco_2014_valminusminival": ("instances_valminusminival2014.json", "val2014"),
}


@pytest.mark.parametrize("name", LAYOUT)
def test_published_layout(tmp_path, name):
    path = write_coco(tmp_path, {3: (8, 9)}, [box(1, 3, [0, 0, 4, 4])])
    annotations, images = LAYOUT[name]
    (tmp_path / "root/coco/annotations").mkdir(parents=True)
    shutil.copy(path, tmp_path / "root/coco/annotations" / annotations)
    shutil.copytree(tmp_path / "images", tmp_path / "root/coco" / images)
    data = open_dataset(name, root=tmp_path / "root", training=False)
    assert data.image_ids == [3] and data[0].image.shape == (3, 8, 9)


def test_a_users_coco_files(tmp_path):
    path = write_coco(tmp_path, {3: (8, 9)}, [box(1, 3, [0, 0, 4, 4])])
    name = f"coco:{path}:{tmp_path / 'images'}"
    data = open_dataset(name, root="unused", training=True, seed=4)
    assert data.image_ids == [3] and data.seed == 4
    colon = tmp_path / "a:b"
    shutil.copytree(tmp_path / "images", colon)
    assert len(open_dataset(f"coco:{path}:{colon}", root="unused", training=True)) == 1


def test_existing_shapes_are_kept(tmp_path):
    make_shapes(tmp_path / "shapes", train=3, val=2, size=64, seed=9)
    assert len(open_dataset("shapes_train", root=tmp_path, training=True)) == 3
    assert len(open_dataset("shapes_val", root=tmp_path, training=False)) == 2


def test_the_error_explains_entries_of_a_paths_catalog(tmp_path):
    with pytest.raises(UserError) as error:
        open_dataset("my_cells_train", root=tmp_path, training=True)
    assert "paths_catalog.py use coco:<DATA_DIR>/<its ann_file>:<DATA_DIR>/" in str(error.value)
    assert "\n" not in str(error.value)


def test_unknown_and_missing(tmp_path):
    with pytest.raises(UserError, match=r"'coco_2017_tran' is unknown.*'coco_2017_train'"):
        open_dataset("coco_2017_tran", root=tmp_path, training=True)
    with pytest.raises(UserError, match=r"instances_val2017\.json: .*'coco_2017_val'.*DATASETS"):
        open_dataset("coco_2017_val", root=tmp_path, training=False)
    for name in ("coco:", "coco:a.json", "coco:a.json:", "coco::b"):
        with pytest.raises(UserError, match="write it as coco:<"):
            open_dataset(name, root=tmp_path, training=True)


def test_published_voc_names(tmp_path):
    objects = voc_object("cat", "1 1 9 9")
    write_voc(tmp_path / "voc/VOC2007", {"a": objects}, {"trainval": ["a"], "test": ["a"]})
    for name in ("voc_2007_trainval", "voc_2007_test"):
        data = open_dataset(name, root=tmp_path, training=True)
        assert len(data) == 1 and len(data.class_names) == 20
    with pytest.raises(UserError, match=r"voc/VOC2012: not found, but data set 'voc_2012_val'"):
        open_dataset("voc_2012_val", root=tmp_path, training=True)
    with pytest.raises(UserError, match=r"'voc_2007_tes' is unknown: the nearest.*'voc_2007_test'"):
        open_dataset("voc_2007_tes", root=tmp_path, training=True)


def test_a_users_devkit(tmp_path):
    folder = write_voc(tmp_path / "a:b", {"a": voc_object("x", "1 1 9 9")}, {"t": ["a"]})
    data = open_dataset(
        f"voc:{folder}:t", root="unused", training=True, seed=4, convention=BoxConvention.EXACT
    )
    assert data.class_names == ["x"] and data.seed == 4
    assert data.ground_truth(0).boxes.tolist() == [[0, 0, 9, 9]]
    for name in ("voc:", "voc:a", "voc::t", "voc:a:"):
        with pytest.raises(UserError, match="write it as voc:<devkit folder>:<split>"):
            open_dataset(name, root=tmp_path, training=True)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("shape_train", "shapes_train"),
        ("coco_val2017", "coco_2017_val"),
        ("voc_07_test", "voc_2007_test"),
        ("my_pigs_train", None),
        ("pigs_val", None),
    ],
)
def test_the_nearest_name_needs_more_than_a_common_ending(tmp_path, name, near):
    with pytest.raises(UserError) as error:
        open_dataset(name, root=tmp_path, training=True)
    wanted = f"the nearest name is '{near}'" if near else "names are coco_2017_train, "
    assert f"data set '{name}' is unknown: {wanted}" in str(error.value)
