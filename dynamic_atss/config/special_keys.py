"""Lists keys of the configuration that are not read as usual."""

# Keys of two-stage models in published YAML files: accepted, without effect.
WITHOUT_EFFECT = (
    "MODEL.RPN",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_BOX_HEAD",
    "PATHS_CATALOG",
)

# Sections that accept any key.
FREE_SECTIONS = (
    "MODEL.ASSIGNER.ARGS",
    "MODEL.BACKBONE.ARGS",
    "MODEL.HEAD.ARGS",
    "MODEL.ONE_TO_ONE.ARGS",
)

# Keys that may name code, as "path/to/file.py:Name" or "module:Name".
CODE_KEYS = (
    "MODEL.ASSIGNER.NAME",
    "MODEL.BACKBONE.CONV_BODY",
    "MODEL.BOX_LOSS",
    "MODEL.HEAD.NAME",
    "MODEL.ONE_TO_ONE.NAME",
    "INPUT.AUGMENTATIONS",
    "DATASETS.TRAIN",
    "DATASETS.TEST",
)
# Keys that hold names: a text is one name, or several separated by commas.
NAME_LISTS = ("DATASETS.TRAIN", "DATASETS.TEST", "INPUT.AUGMENTATIONS")
DATA_FORMATS = ("coco", "voc", "yolo")  # a name of DATASETS that begins so does not name code
