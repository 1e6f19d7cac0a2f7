"""What a JSON file is that is not in COCO's format, for the message that refuses it."""

from __future__ import annotations

from typing import Any

FIX = "give a COCO file, with 'images', 'annotations' and 'categories'"

# Keys that tell a format, and what it is; the first that fits counts.
_FORMATS: list[tuple[set[str], str]] = [
    ({"image_id", "bbox", "score"}, "COCO's format of results, not of annotations"),
    (
        {"image_id", "category_id", "bbox"},
        "COCO's annotations alone, without images and categories",
    ),
    ({"shapes", "imagePath"}, "labelme's format of one picture"),
    ({"_via_img_metadata"}, "a project of the VGG Image Annotator"),
    ({"regions", "filename"}, "the VGG Image Annotator's format"),
    ({"image", "annotations"}, "CreateML's format"),
    ({"data", "annotations"}, "Label Studio's own format"),
    ({"file_name", "annotations"}, "a list of images with their annotations inside"),
    ({"segments_info"}, "COCO's panoptic format"),
    ({"features", "type"}, "GeoJSON"),
]


def describe(content: Any) -> str:
    """What the top level of a JSON file is, in words: its type, its keys, and whose they are."""
    if not isinstance(content, dict | list):
        return f"a {type(content).__name__}"
    entry = content if isinstance(content, dict) else next(iter(content), None)
    if isinstance(content, dict) and content and all(isinstance(v, dict) for v in content.values()):
        known = _name(next(iter(content.values())))
        if known:
            return f"an object of {len(content)} entries: {known}"
    known = _name(entry)
    kind = "an object" if isinstance(content, dict) else f"a list of {len(content)} entries"
    return f"{kind}{_keys(entry)}{f': {known}' if known else ''}"


def _name(entry: object) -> str:
    if not isinstance(entry, dict):
        return ""
    return next((name for keys, name in _FORMATS if keys <= entry.keys()), "")


def _keys(entry: object) -> str:
    if not isinstance(entry, dict) or not entry:
        return ""
    shown = ", ".join(repr(str(key)[:20]) for key in list(entry)[:5])
    return f" with {shown}{', ...' if len(entry) > 5 else ''}"
