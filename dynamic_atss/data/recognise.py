"""Names the format of a JSON file that is not COCO's, for error messages."""

from __future__ import annotations

from typing import Any

FIX = "give a COCO file, with 'images', 'annotations' and 'categories'"

# Keys of a format, and its name. The first match counts.
_FORMATS: list[tuple[set[str], str]] = [
    ({"image_id", "bbox", "score"}, "COCO results, not annotations"),
    (
        {"image_id", "category_id", "bbox"},
        "only COCO's annotations, without images and categories",
    ),
    ({"shapes", "imagePath"}, "labelme's format of one picture"),
    ({"_via_img_metadata"}, "a project of the VGG Image Annotator"),
    ({"regions", "filename"}, "the VGG Image Annotator's format"),
    ({"image", "annotations"}, "CreateML's format"),
    ({"data", "annotations"}, "Label Studio's JSON format"),
    ({"file_name", "annotations"}, "images that include their annotations"),
    ({"segments_info"}, "COCO's panoptic format"),
    ({"features", "type"}, "GeoJSON"),
]


def describe(content: Any) -> str:
    """Describes the top level of a JSON file: its type, its keys and, if known, its format."""
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
