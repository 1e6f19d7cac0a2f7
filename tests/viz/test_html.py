"""Tests the common parts of HTML pages: texts are escaped, and nothing is loaded."""

import re
from base64 import b64decode
from html import unescape

import cv2
import numpy as np
import pytest
import torch

from dynamic_atss.viz import html

NAMES = ["<b>&\"'", "a\nb", "\u202egpj.exe", "\ud800", "$title", "Ünï ☃"]


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_shown_and_is_no_markup(name):
    parts = [html.safe(name), html.breakable(name), html.table([name], [[name]])]
    page = html.page(name, "".join(parts))
    assert not re.search("<b>|a\nb|\u202e|\ud800", page.partition("</style>")[2])
    assert page.encode()  # no lone surrogate
    shown = unescape(html.safe(name))
    assert shown == name if name in ("<b>&\"'", "$title", "Ünï ☃") else "\\" in shown


def test_a_path_breaks_after_its_slashes():
    assert html.breakable("a/b:c") == "a/<wbr>b:<wbr>c"


def test_pictures_are_within_the_page():
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    image[0] = 200  # red
    figure = html.picture("<alt>", image, caption="<i>below</i>")
    assert 'alt="&lt;alt&gt;"' in figure and "<figcaption><i>below</i></figcaption>" in figure
    kind, data = re.search('src="data:image/([a-z]+);base64,([^"]+)"', figure).groups()
    pixels = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert kind == "jpeg" and pixels.shape == (40, 60, 3)
    assert np.abs(pixels.reshape(-1, 3).astype(int) - [0, 0, 200]).max() <= 3  # BGR


def test_a_plot_has_the_size_asked_for():
    figure = html.plot("line", lambda axes: axes.plot([1, 2]), size=(4, 3))
    data = re.search('src="data:image/png;base64,([^"]+)"', figure)[1]
    pixels = cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert pixels.shape == (360, 480, 3)


def test_a_picture_is_of_lower_quality_where_it_would_be_too_large():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 300, 300), np.uint8))
    sizes = [len(html.picture("noise", noise, max_bytes=most)) for most in (10**6, 60_000)]
    assert sizes[1] < 60_000 * 4 / 3 + 200 < sizes[0]
