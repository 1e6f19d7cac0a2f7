from pathlib import Path

import pytest
from yacs.config import CfgNode

from dynamic_atss.builders import check_config
from dynamic_atss.config import defaults
from dynamic_atss.config.defaults import default_config
from dynamic_atss.config.load import keys_without_effect, known_keys, load_config
from dynamic_atss.config.other_names import OTHER_NAMES
from dynamic_atss.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(CONFIGS.glob("*/*.yaml"))

# The values of the releases.
PUBLISHED = {
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WEIGHT_DECAY": 5e-4,
    "SOLVER.WEIGHT_DECAY_BIAS": 0.0,
    "SOLVER.BIAS_LR_FACTOR": 2,
    "SOLVER.MOMENTUM": 0.9,
    "SOLVER.GAMMA": 0.1,
    "SOLVER.STEPS": (30000,),
    "SOLVER.MAX_ITER": 40000,
    "SOLVER.CHECKPOINT_PERIOD": 2500,
    "SOLVER.IMS_PER_BATCH": 16,
    "SOLVER.WARMUP_FACTOR": 1 / 3,
    "SOLVER.WARMUP_ITERS": 500,
    "INPUT.MIN_SIZE_TRAIN": (800,),
    "INPUT.MIN_SIZE_RANGE_TRAIN": (-1, -1),
    "INPUT.MAX_SIZE_TRAIN": 1333,
    "INPUT.MIN_SIZE_TEST": 800,
    "INPUT.MAX_SIZE_TEST": 1333,
    "INPUT.TO_BGR255": True,
    "INPUT.PIXEL_MEAN": [102.9801, 115.9465, 122.7717],
    "INPUT.PIXEL_STD": [1.0, 1.0, 1.0],
    "DATALOADER.NUM_WORKERS": 4,
    "DATALOADER.ASPECT_RATIO_GROUPING": True,
    "TEST.IMS_PER_BATCH": 8,
    "TEST.DETECTIONS_PER_IMG": 100,
    "TEST.EXPECTED_RESULTS": [],
    "TEST.BBOX_AUG.MAX_SIZE": 4000,
    "TEST.BBOX_AUG.VOTE_TH": 0.66,
    "TEST.BBOX_AUG.MERGE_TYPE": "vote",
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": 4,
    "MODEL.BACKBONE.FREEZE_CONV_BODY_AT": 2,
    "MODEL.CLS_AGNOSTIC_BBOX_REG": False,
    "MODEL.GROUP_NORM.DIM_PER_GP": -1,
    "MODEL.GROUP_NORM.NUM_GROUPS": 32,
    "MODEL.GROUP_NORM.EPSILON": 1e-5,
    "MODEL.RESNETS.TRANS_FUNC": "BottleneckWithFixedBatchNorm",
    "MODEL.RESNETS.STEM_FUNC": "StemWithFixedBatchNorm",
    "MODEL.RESNETS.RES5_DILATION": 1,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 256,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 64,
    "MODEL.ATSS.NUM_CLASSES": 81,
    "MODEL.ATSS.ANCHOR_SIZES": (64, 128, 256, 512, 1024),
    "MODEL.ATSS.ASPECT_RATIOS": (1.0,),
    "MODEL.ATSS.ANCHOR_STRIDES": (8, 16, 32, 64, 128),
    "MODEL.ATSS.STRADDLE_THRESH": 0,
    "MODEL.ATSS.OCTAVE": 2.0,
    "MODEL.ATSS.SCALES_PER_OCTAVE": 1,
    "MODEL.ATSS.NUM_CONVS": 4,
    "MODEL.ATSS.USE_DCN_IN_TOWER": False,
    "MODEL.ATSS.LOSS_ALPHA": 0.25,
    "MODEL.ATSS.LOSS_GAMMA": 2.0,
    "MODEL.ATSS.POSITIVE_TYPE": "ATSS",
    "MODEL.ATSS.FG_IOU_THRESHOLD": 0.5,
    "MODEL.ATSS.BG_IOU_THRESHOLD": 0.4,
    "MODEL.ATSS.TOPK": 9,
    "MODEL.ATSS.REGRESSION_TYPE": "BOX",
    "MODEL.ATSS.REG_LOSS_WEIGHT": 2.0,
    "MODEL.ATSS.PRIOR_PROB": 0.01,
    "MODEL.ATSS.INFERENCE_TH": 0.05,
    "MODEL.ATSS.NMS_TH": 0.6,
    "MODEL.ATSS.PRE_NMS_TOP_N": 1000,
    "MODEL.FCOS.NUM_CLASSES": 81,
    "MODEL.FCOS.FPN_STRIDES": [8, 16, 32, 64, 128],
    "MODEL.FCOS.PRIOR_PROB": 0.01,
    "MODEL.FCOS.INFERENCE_TH": 0.05,
    "MODEL.FCOS.NMS_TH": 0.6,
    "MODEL.FCOS.PRE_NMS_TOP_N": 1000,
    "MODEL.FCOS.LOSS_ALPHA": 0.25,
    "MODEL.FCOS.LOSS_GAMMA": 2.0,
    "MODEL.FCOS.NUM_CONVS": 4,
    "MODEL.FCOS.CENTER_SAMPLING_RADIUS": 0.0,
    "MODEL.FCOS.IOU_LOSS_TYPE": "iou",
    "MODEL.FCOS.NORM_REG_TARGETS": False,
    "MODEL.FCOS.CENTERNESS_ON_REG": False,
    "MODEL.FCOS.USE_DCN_IN_TOWER": False,
    "MODEL.RETINANET.NUM_CLASSES": 81,
    "MODEL.RETINANET.ANCHOR_SIZES": (32, 64, 128, 256, 512),
    "MODEL.RETINANET.ASPECT_RATIOS": (0.5, 1.0, 2.0),
    "MODEL.RETINANET.ANCHOR_STRIDES": (8, 16, 32, 64, 128),
    "MODEL.RETINANET.STRADDLE_THRESH": 0,
    "MODEL.RETINANET.OCTAVE": 2.0,
    "MODEL.RETINANET.SCALES_PER_OCTAVE": 3,
    "MODEL.RETINANET.USE_C5": True,
    "MODEL.RETINANET.NUM_CONVS": 4,
    "MODEL.RETINANET.BBOX_REG_WEIGHT": 4.0,
    "MODEL.RETINANET.BBOX_REG_BETA": 0.11,
    "MODEL.RETINANET.PRE_NMS_TOP_N": 1000,
    "MODEL.RETINANET.FG_IOU_THRESHOLD": 0.5,
    "MODEL.RETINANET.BG_IOU_THRESHOLD": 0.4,
    "MODEL.RETINANET.LOSS_ALPHA": 0.25,
    "MODEL.RETINANET.LOSS_GAMMA": 2.0,
    "MODEL.RETINANET.PRIOR_PROB": 0.01,
    "MODEL.RETINANET.INFERENCE_TH": 0.05,
    "MODEL.RETINANET.NMS_TH": 0.4,
}

# A file such as users of the releases have: two-stage keys, comments, tuples as texts, empty
# sections.
BROUGHT = """
# An experiment of mine
MODEL:
  META_ARCHITECTURE: "GeneralizedRCNN"
  WEIGHT: "catalog://ImageNetPretrained/MSRA/R-50"
  RPN_ONLY: True
  ATSS_ON: True
  BACKBONE:
    CONV_BODY: "R-50-FPN-RETINANET"
  RESNETS:
    BACKBONE_OUT_CHANNELS: 256
    STAGE_WITH_DCN: (False, False, True, True)  # the last two
  RETINANET:
    USE_C5: False # FPN uses P5 to generate P6 and P7
  RPN:
    FG_IOU_THRESHOLD: 0.5
    STRADDLE_THRESH: -1
    ANCHOR_SIZES: (32, 64, 128, 256, 512)
  ROI_HEADS:
    USE_FPN: True
    FG_IOU_THRESHOLD: 0.5
  ROI_BOX_HEAD:
  CLS_AGNOSTIC_BBOX_REG: False
  GROUP_NORM:
    NUM_GROUPS: 32
  FCOS:
    FPN_STRIDES: (8, 16, 32, 64, 128)
    IOU_LOSS_TYPE: "giou"
  ATSS:
    ANCHOR_SIZES: (64, 128, 256, 512, 1024) # 8S
    ASPECT_RATIOS: (1,)
    SCALES_PER_OCTAVE: 1
    REGRESSION_TYPE: 'BOX' # or 'POINT'
PATHS_CATALOG: "maskrcnn_benchmark/config/paths_catalog.py"
DATASETS:
  TRAIN: ("coco_2017_train",)
  TEST: ("coco_2017_val",)
INPUT:
  MIN_SIZE_RANGE_TRAIN: (640, 800)
  MIN_SIZE_TRAIN: [800]
  MAX_SIZE_TRAIN: 1333
DATALOADER:
  SIZE_DIVISIBILITY: 32
SOLVER:
  BASE_LR: 1e-2
  WEIGHT_DECAY: 0.0001
  STEPS: (60000, 80000)
  MAX_ITER: 9e4
  WARMUP_METHOD: "constant"
TEST:
"""


def value(cfg: CfgNode, key: str):
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def refusal(*args) -> str:
    with pytest.raises(UserError) as caught:
        load_config(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def brought(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(BROUGHT)
    return path


@pytest.mark.parametrize("key", PUBLISHED)
def test_default_is_the_published_value(key):
    found = value(default_config(), key)
    assert found == PUBLISHED[key]
    assert type(found) is type(PUBLISHED[key])


def test_without_the_key_batches_are_padded_as_the_published_files_say(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(BROUGHT.replace("DATALOADER:\n  SIZE_DIVISIBILITY: 32\n", ""))
    assert "SIZE_DIVISIBILITY" not in path.read_text()
    assert load_config(path).DATALOADER.SIZE_DIVISIBILITY == 32
    path.write_text(BROUGHT.replace("SIZE_DIVISIBILITY: 32", "SIZE_DIVISIBILITY: 0"))
    assert load_config(path).DATALOADER.SIZE_DIVISIBILITY == 0


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_config_file_loads(file):
    cfg = load_config(file)
    check_config(cfg)
    assert keys_without_effect(cfg) == []
    assert cfg.is_frozen()


def test_there_are_the_twenty_published_files_and_the_quickstart():
    count = {
        folder: len(list((CONFIGS / folder).glob("*.yaml"))) for folder in ("atss", "dynamic_atss")
    }
    assert count == {"atss": 10, "dynamic_atss": 10}
    assert list((CONFIGS / "quickstart").glob("*.yaml"))


def test_a_file_of_the_releases_as_a_user_brings_it(brought):
    cfg = load_config(brought)
    check_config(cfg)
    expected = {
        "MODEL.ATSS_ON": True,
        "MODEL.WEIGHT": "catalog://ImageNetPretrained/MSRA/R-50",
        "MODEL.RESNETS.STAGE_WITH_DCN": (False, False, True, True),
        "MODEL.RETINANET.USE_C5": False,
        "MODEL.ATSS.ANCHOR_SIZES": (64, 128, 256, 512, 1024),
        "MODEL.ATSS.ASPECT_RATIOS": (1.0,),
        "DATASETS.TRAIN": ("coco_2017_train",),
        "INPUT.MIN_SIZE_RANGE_TRAIN": (640, 800),
        "INPUT.MIN_SIZE_TRAIN": (800,),
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.STEPS": (60000, 80000),
        "SOLVER.MAX_ITER": 90000,
        "TEST.IMS_PER_BATCH": 8,
    }
    for key, wanted in expected.items():
        assert value(cfg, key) == wanted, key
    assert type(cfg.SOLVER.MAX_ITER) is int


def test_keys_of_two_stage_models_are_named_and_not_kept(brought):
    cfg = load_config(brought, ["MODEL.RPN.STRADDLE_THRESH", "0"])
    assert keys_without_effect(cfg) == [
        "MODEL.ROI_HEADS.FG_IOU_THRESHOLD",
        "MODEL.ROI_HEADS.USE_FPN",
        "MODEL.RPN.ANCHOR_SIZES",
        "MODEL.RPN.FG_IOU_THRESHOLD",
        "MODEL.RPN.STRADDLE_THRESH",
        "PATHS_CATALOG",
    ]
    assert "RPN:" not in cfg.dump() and "PATHS_CATALOG" not in cfg.dump()


def test_the_file_that_a_run_writes_loads_again(brought, tmp_path):
    cfg = load_config(brought, ["SOLVER.STEPS", "(1, 2)"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    assert load_config(tmp_path / "config.yaml") == cfg


def test_the_command_line_has_the_last_word_and_later_pairs_win(brought):
    cfg = load_config(brought, ["SOLVER.BASE_LR", "1", "SOLVER.BASE_LR", "2e-3"])
    assert cfg.SOLVER.BASE_LR == 0.002


@pytest.mark.parametrize(
    ("key", "text", "wanted"),
    [
        ("SOLVER.STEPS", "(1, 2)", (1, 2)),
        ("SOLVER.STEPS", "[1, 2]", (1, 2)),
        ("SOLVER.STEPS", "(60e3,)", (60000,)),
        ("SOLVER.STEPS", "()", ()),
        ("INPUT.PIXEL_MEAN", "(1, 2, 3)", [1.0, 2.0, 3.0]),
        ("DATASETS.TRAIN", "('coco:/a b/c.json:/d',)", ("coco:/a b/c.json:/d",)),
        ("SOLVER.BASE_LR", "1", 1.0),
        ("SOLVER.MAX_ITER", "1e3", 1000),
        ("MODEL.RPN_ONLY", "True", True),
        ("MODEL.WEIGHT", "123", "123"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 0.39, 0.002]]", [["bbox", "AP", 0.39, 0.002]]),
    ],
)
def test_values_take_the_type_of_the_default(key, text, wanted):
    found = value(load_config(None, [key, text]), key)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("key", "text", "kind"),
    [
        ("SOLVER.BASE_LR", "fast", "a number"),
        ("SOLVER.BASE_LR", "{[]: 1}", "a number"),
        ("SOLVER.BASE_LR", "True", "a number"),
        ("SOLVER.BASE_LR", "1" + "0" * 400, "a number"),
        ("SOLVER.MAX_ITER", "1.5", "an integer"),
        ("SOLVER.MAX_ITER", "True", "an integer"),
        ("MODEL.ATSS_ON", "1", "True or False"),
        ("MODEL.ATSS_ON", "yes", "True or False"),
        ("DATASETS.TRAIN", "5", "a tuple"),
        ("SOLVER.STEPS", "('a',)", "a tuple"),
        ("INPUT.MIN_SIZE_TRAIN", "(800.5,)", "a tuple"),
        ("INPUT.MIN_SIZE_TRAIN", "((800,),)", "a tuple"),
        ("MODEL.RESNETS.STAGE_WITH_DCN", "(0, 0, 1, 1)", "a tuple"),
    ],
)
def test_a_wrong_type_is_reported_with_key_and_kind(key, text, kind):
    message = refusal(None, [key, text])
    assert message.startswith(f"command line: {key} wants {kind}")


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("MODEL.RESNETS.STAGE_WITH_DCN", "(False, True, True)"),
        ("INPUT.PIXEL_MEAN", "[1.0]"),
        ("INPUT.MIN_SIZE_TRAIN", "()"),
        ("INPUT.MIN_SIZE_RANGE_TRAIN", "(800, 640)"),
        ("MODEL.ATSS.ANCHOR_SIZES", "(64,)"),
        ("MODEL.ATSS.ASPECT_RATIOS", "()"),
        ("MODEL.ATSS.TOPK", "0"),
        ("DATASETS.TRAIN", "(1,)"),
        ("DATALOADER.NUM_WORKERS", "-1"),
        ("SOLVER.STEPS", "(8, 4)"),
        ("SOLVER.EMA_DECAY", "2"),
        ("SOLVER.OPTIMIZER", "adam"),
        ("MODEL.FCOS_ON", "True"),
        ("TEST.EXPECTED_RESULTS", "[1]"),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'mAP', 0.1, 0.1]]"),
    ],
)
def test_values_that_no_run_could_use_are_refused_before_it_starts(key, text):
    with pytest.raises(UserError, match=key) as caught:
        check_config(load_config(None, ["MODEL.ATSS_ON", "True", key, text]))
    assert "\n" not in str(caught.value)


REFUSED = {
    "SEED": ["-1", str(2**63)],
    "DATALOADER.NUM_WORKERS": ["-1", "100000"],
    "DATALOADER.SIZE_DIVISIBILITY": ["-32", "1000000"],
    "INPUT.FLIP_PROB_TRAIN": ["-0.1", "1.5"],
    "INPUT.VERTICAL_FLIP_PROB_TRAIN": ["-0.1", "1.5"],
    "INPUT.MAX_SIZE_TEST": ["0", "1000000"],
    "INPUT.PIXEL_MEAN": ["(1, 2, 1e999)"],
    "INPUT.PIXEL_STD": ["(1, 0, 1)", "(1, -1, 1)"],
    "MODEL.ATSS.ANCHOR_STRIDES": ["(4, 8, 16, 32, 64)"],
    "MODEL.ATSS.ASPECT_RATIOS": ["(1000,)", "(0.001,)"],
    "MODEL.ATSS.INFERENCE_TH": ["-0.05", "1"],
    "MODEL.ATSS.LOSS_ALPHA": ["-1", "2"],
    "MODEL.ATSS.LOSS_GAMMA": ["-2"],
    "MODEL.ATSS.NMS_TH": ["-0.6", "60"],
    "MODEL.ATSS.NUM_CLASSES": ["1"],
    "MODEL.ATSS.NUM_CONVS": ["-1", "1000"],
    "MODEL.ATSS.OCTAVE": ["0", "-2"],
    "MODEL.ATSS.PRE_NMS_TOP_N": ["0"],
    "MODEL.ATSS.PRIOR_PROB": ["0", "1"],
    "MODEL.ATSS.QUALITY_LOSS_WEIGHT": ["-0.5", "1e999"],
    "MODEL.ATSS.REG_LOSS_WEIGHT": ["-2", "1e999"],
    "MODEL.ATSS.SCALES_PER_OCTAVE": ["0", "1000"],
    "MODEL.ATSS.TOPK": ["0", "-9"],
    "SOLVER.BASE_LR": ["0", "-0.01", "1e999"],
    "SOLVER.BIAS_LR_FACTOR": ["-2"],
    "SOLVER.CLIP_GRAD_NORM": ["-1"],
    "SOLVER.DCONV_OFFSETS_LR_FACTOR": ["-1"],
    "SOLVER.EMA_DECAY": ["-0.1", "1"],
    "SOLVER.KEEP_CHECKPOINTS": ["-1"],
    "SOLVER.GAMMA": ["0", "-0.1", "10"],
    "SOLVER.MOMENTUM": ["-1", "1"],
    "SOLVER.STEPS": ["(-5, 4)"],
    "SOLVER.WARMUP_FACTOR": ["-1", "3"],
    "SOLVER.WARMUP_ITERS": ["-500"],
    "SOLVER.WEIGHT_DECAY": ["-0.0001", "2"],
    "SOLVER.WEIGHT_DECAY_BIAS": ["-0.0001", "2"],
    "TEST.DETECTIONS_PER_IMG": ["0", "-1"],
    "TEST.EXPECTED_RESULTS_SIGMA_TOL": ["-4"],
    "TEST.PERIOD": ["-1"],
    "TEST.BEST_METRIC": ["ap", "mAP", "AP"],  # the last without tests in training
    "TEST.PATIENCE": ["-1", "3"],  # the last without a number to watch
    "TEST.EXPECTED_RESULTS": [
        "[['bbox', 'AP', '0.4', 0.1]]",
        "[['bbox', 'AP', 0.4, None]]",
        "[['bbox', 'AP', 0.4, -0.1]]",
        "[['bbox', 'AP', 0.4, True]]",
        "[['bbox', 'AP', 0.4]]",
        "[['bbox', ['AP'], 0.4, 0.1]]",
        "[['segm', 'AP', 0.4, 0.1]]",
        "[['bbox', 'AP', 1e999, 0.1]]",
    ],
    "MODEL.GROUP_NORM.NUM_GROUPS": ["16"],
    "MODEL.RESNETS.TRANS_FUNC": ["BottleneckWithGN"],
    "MODEL.RESNETS.STEM_FUNC": ["StemWithGN"],
    "MODEL.RESNETS.RES5_DILATION": ["2"],
    "MODEL.RESNETS.RES2_OUT_CHANNELS": ["0", "10000000"],
    "TEST.BBOX_AUG.VOTE_TH": ["0.0", "1.01", "1e999"],
    "TEST.BBOX_AUG.MERGE_TYPE": ["mean"],
    "TEST.BBOX_AUG.MAX_SIZE": ["0", "1000000"],
    "TEST.BBOX_AUG.SCALES": ["(0,)", "(400, 'x')", "(400.5,)", "(True,)", "(1000000,)"],
    "TEST.BBOX_AUG.SCALE_RANGES": [
        "((0, 96),)",  # without SCALES
        "((96, 0),)",
        "(96,)",
        "((0, 96, 256),)",
        "((-1, 96),)",
        "(('a', 96),)",
    ],
    "MODEL.ATSS.POSITIVE_TYPE": ["iou"],
    "MODEL.CLASS_LOSS": ["ce"],
    "MODEL.CLASS_LOSS_DIVISOR": ["images"],
    "MODEL.DSLA.RELAXATION_FACTOR": ["1.0", "-0.1"],
    "MODEL.FCOS.IOU_LOSS_TYPE": ["diou"],
    "MODEL.ONE_TO_ONE.LR_FACTOR": ["0.0", "-3.0"],
    "MODEL.RETINANET.FG_IOU_THRESHOLD": ["1.5"],
}


@pytest.mark.parametrize(
    ("key", "text"), [(k, text) for k, texts in REFUSED.items() for text in texts]
)
def test_nonsense_is_refused_before_the_run_starts(key, text):
    with pytest.raises(UserError) as caught:
        check_config(load_config(None, ["MODEL.ATSS_ON", "True", key, text]))
    message = str(caught.value)
    assert message.startswith(f"{key} ") and "\n" not in message


@pytest.mark.parametrize("text", [".nan", "-.inf"])
def test_a_value_in_a_file_that_is_not_finite(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(f"MODEL:\n  ATSS_ON: True\nSOLVER:\n  BASE_LR: {text}\n")
    with pytest.raises(UserError, match=r"SOLVER\.BASE_LR (nan|-inf): give finite numbers"):
        check_config(load_config(path))


def test_without_a_head_nothing_starts():
    with pytest.raises(UserError, match=r"no head is switched on: set one of MODEL\.ATSS_ON, "):
        check_config(load_config())
    check_config(load_config(None, ["MODEL.ATSS_ON", "True", "MODEL.ATSS.REG_LOSS_WEIGHT", "1e37"]))


def test_the_gpu_is_chosen_by_the_environment():
    with pytest.raises(UserError, match=r"auto, cuda, cpu; CUDA_VISIBLE_DEVICES chooses"):
        check_config(load_config(None, ["MODEL.ATSS_ON", "True", "MODEL.DEVICE", "cuda:1"]))


def test_every_key_has_its_comment():
    """One line each, `_C.SECTION.KEY = value  # comment`."""
    lines = Path(defaults.__file__).read_text().splitlines()
    found = {line.split(" = ")[0].removeprefix("_C."): line for line in lines if " = " in line}
    for key in known_keys(default_config()):
        assert "  # " in found[key], key


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("MODEL.ATS.TOPK", "MODEL.ATSS.TOPK"),
        ("solver.base_lr", "SOLVER.BASE_LR"),
        ("BASE_LR", "SOLVER.BASE_LR"),
        ("SOLVER.BASE_LR.DEEPER", "SOLVER.BASE_LR"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
    message = refusal(None, [key, "1"])
    assert message.startswith(f"command line: unknown key {key}; ")
    assert message.endswith(f"nearest is {nearest}")


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("SOLVER.LEARNING_RATE", "here it is SOLVER.BASE_LR"),
        ("lr", "here it is SOLVER.BASE_LR"),
        ("EPOCHS", "here it is SOLVER.MAX_ITER: epochs x images of the training set / SOLVER.IMS"),
        ("BATCH_SIZE", "here it is SOLVER.IMS_PER_BATCH, images of an iteration over all"),
        ("MODEL.NUM_CLASSES", "here it is not needed"),
        ("MODEL.WEIGHTS", "here it is MODEL.WEIGHT"),
        ("DEVICE", "here it is MODEL.DEVICE"),
    ],
)
def test_names_of_other_frameworks_are_known(key, advice):
    assert refusal(None, [key, "1"]).startswith(f"command line: unknown key {key}; {advice}")


def test_keys_in_the_table_of_other_names_exist():
    words = " ".join(OTHER_NAMES.values()).replace(":", " ").replace(",", " ").split()
    sections = ("SOLVER.", "MODEL.", "INPUT.", "TEST.", "DATASETS.", "DATALOADER.")
    named = {word for word in words if word.startswith(sections)}
    assert len(named) > 10 and named <= {*known_keys(default_config())}


def test_no_key_that_is_not_similar_is_offered():
    message = refusal(None, ["FOO.BAR", "1"])
    assert "FOO.BAR" in message and "nearest" not in message and "config/defaults.py" in message


def test_equal_sections_do_not_make_keys_alike():
    assert "lists all" in refusal(None, ["SOLVER.LEARNING_RATES", "1"])


def test_only_the_named_sections_of_two_stage_models_are_accepted():
    assert "unknown key MODEL.ROI_HEADSS.USE_FPN" in refusal(
        None, ["MODEL.ROI_HEADSS.USE_FPN", "1"]
    )


def test_an_unknown_key_of_a_file_names_the_file(tmp_path):
    path = tmp_path / "typo.yaml"
    path.write_text("SOLVER:\n  BASE_LEARNING_RATE: 0.1\n")
    assert refusal(path).startswith(f"{path}: unknown key SOLVER.BASE_LEARNING_RATE; here it")


def test_a_section_is_not_a_key(tmp_path):
    path = tmp_path / "section.yaml"
    path.write_text("MODEL: 5\n")
    assert "MODEL is a section" in refusal(path)
    assert "MODEL is a section" in refusal(None, ["MODEL", "5"])


def test_overrides_come_in_pairs():
    assert "'SOLVER.BASE_LR' has no value" in refusal(None, ["SEED", "1", "SOLVER.BASE_LR"])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("MODEL: [1, 2\n", "not a YAML file"),
        ("\tMODEL:\n", "not a YAML file"),
        ("- 1\n- 2\n", "found list"),
        ("just words", "found str"),
        ("SEED: 2001-02-30", "not a YAML file"),
        ("SEED: " + "9" * 5000, "not a YAML file"),
        ("[" * 5000, "not a YAML file"),
        ("!!python/object/apply:os.system ['true']", "not a YAML file"),
    ],
)
def test_a_broken_file_is_reported_in_one_line(tmp_path, text, fault):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    message = refusal(path)
    assert message.startswith(f"{path}: ") and fault in message


def test_a_file_that_is_no_text(tmp_path):
    path = tmp_path / "picture.yaml"
    path.write_bytes(bytes(range(128, 256)))
    assert "not a YAML file" in refusal(path)


@pytest.mark.parametrize("name", ["nowhere.yaml", "."])
def test_a_missing_file_and_a_folder(tmp_path, name):
    message = refusal(tmp_path / name)
    assert message.startswith(f"--config-file {tmp_path / name}: ")


def test_empty_files_and_sections_set_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    for text in ("", "# nothing\n", "MODEL:\n  ATSS:\nSOLVER:\nTEST: {}\n"):
        path.write_text(text)
        assert load_config(path) == default_config()


def test_a_number_alone_is_the_only_entry_of_a_tuple():
    cfg = load_config(overrides=["INPUT.MIN_SIZE_TRAIN", "96", "SOLVER.STEPS", "30000"])
    assert cfg.INPUT.MIN_SIZE_TRAIN == (96,) and cfg.SOLVER.STEPS == (30000,)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["SOLVER.MAX_ITER=3", "SOLVER.STEPS", "5"], "SOLVER.MAX_ITER=3: write SOLVER.MAX_ITER 3"),
        (["SOLVER.MAX_ITER", "3", "SEED=4"], "SEED=4: write SEED 4"),
        (["SOLVER.MAX_ITER", "3", "SEED"], "'SEED' has no value"),
    ],
)
def test_key_and_value_are_two_words(words, advice):
    with pytest.raises(UserError, match=advice):
        load_config(overrides=words)


@pytest.mark.parametrize("number", ["0x" + "F" * 5000, "1" + ":1" * 4000, "9" * 400])
@pytest.mark.parametrize("key", ["SOLVER.MAX_ITER", "SEED", "SOLVER.BASE_LR", "SOLVER.TIMEOUT"])
def test_a_number_that_nothing_holds_is_one_line(tmp_path, number, key):
    section, _, name = key.rpartition(".")
    text = f"{section}: {{{name}: {number}}}" if section else f"{name}: {number}"
    (tmp_path / "a.yaml").write_text(text)
    for file, words in ((tmp_path / "a.yaml", []), (None, [key, number])):
        with pytest.raises(UserError, match=key):
            load_config(file, words)


@pytest.mark.parametrize("seconds", ["1e10", "1e300", "0"])
def test_an_excessive_timeout_is_refused(seconds):
    with pytest.raises(UserError, match=r"SOLVER\.TIMEOUT"):
        check_config(load_config(None, ["MODEL.ATSS_ON", "True", "SOLVER.TIMEOUT", seconds]))
