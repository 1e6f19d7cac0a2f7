"""Keys of the configuration that are read in a way of their own."""

# What published YAML files carry along for two-stage models: accepted, without effect.
WITHOUT_EFFECT = (
    "MODEL.RPN",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_BOX_HEAD",
    "PATHS_CATALOG",
)

# Sections whose keys are not listed here.
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
# Keys that hold names: a text is one of them, or several with commas.
NAME_LISTS = ("DATASETS.TRAIN", "DATASETS.TEST", "INPUT.AUGMENTATIONS")
DATA_FORMATS = ("coco", "voc", "yolo")  # what a name of DATASETS may begin with that is no code
