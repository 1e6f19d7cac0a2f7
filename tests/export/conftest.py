"""Makes pictures of three sizes."""

import pytest

from dynamic_atss.data.orientation import ReadOptions
from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.inference.picture import read


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "shapes"
    make_shapes(folder, train=1, val=3, size=128)
    first, second, third = (
        read(path, ReadOptions()).image for path in sorted((folder / "val").glob("*.jpg"))
    )
    return [first, second[:, :90], third[:, :, :100]]
