"""Every key of the configuration with its default and its meaning.

Names and defaults are those of the published releases, so that their YAML files and commands run
unchanged; a key that this project adds is marked (new).
"""

from yacs.config import CfgNode as CN

_C = CN()
_C.SEED = 0  # (new) of the weights' initial values, the order of the images and their augmentation
_C.DTYPE = "float32"  # "float32" | "bfloat16": (new) autocast of backbone and towers
_C.OUTPUT_DIR = "."  # log, metrics, checkpoints and detections go here

_C.MODEL = CN()
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # accepted for the published files; no effect
_C.MODEL.RPN_ONLY = False  # accepted for the published files; no effect
_C.MODEL.ATSS_ON = False  # the anchor head with a quality branch; the rule is Dynamic ATSS
_C.MODEL.FCOS_ON = False  # the FCOS head
_C.MODEL.RETINANET_ON = False  # the RetinaNet head
_C.MODEL.MASK_ON = False  # not carried: an error when True
_C.MODEL.KEYPOINT_ON = False  # not carried: an error when True
_C.MODEL.DEVICE = "auto"  # "auto" (cuda if there is one) | "cuda" | "cpu"
_C.MODEL.WEIGHT = ""  # "", a file, a URL or "catalog://..."
_C.MODEL.USE_SYNCBN = False  # batch norm over all processes in place of the frozen one
_C.MODEL.CHANNELS_LAST = False  # (new) memory format of the convolutions
_C.MODEL.COMPILE = False  # (new) torch.compile of backbone and towers

_C.MODEL.ASSIGNER = CN()
_C.MODEL.ASSIGNER.NAME = ""  # (new) a key of ASSIGNERS; "" = what the switches above mean

_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.CONV_BODY = "R-50-FPN-RETINANET"  # "R-{18,34,50,101}-FPN-RETINANET"
_C.MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # stages below this number are not trained; 0 = none
_C.MODEL.BACKBONE.USE_GN = False  # group norm in the body

_C.MODEL.FPN = CN()
_C.MODEL.FPN.USE_GN = False  # group norm after each of the FPN's convolutions
_C.MODEL.FPN.USE_RELU = False  # relu after each of the FPN's convolutions

_C.MODEL.RESNETS = CN()
_C.MODEL.RESNETS.NORM = ""  # (new) "FrozenBN" | "BN" | "SyncBN" | "GN"; "" = by USE_GN, USE_SYNCBN
_C.MODEL.RESNETS.NUM_GROUPS = 1  # groups of the 3x3 convolution (ResNeXt: 32 or 64)
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64  # channels of a group in the first stage
_C.MODEL.RESNETS.STRIDE_IN_1X1 = True  # MSRA weights: True; FAIR and torchvision weights: False
_C.MODEL.RESNETS.STAGE_WITH_DCN = (False, False, False, False)  # deformable 3x3, by stage
_C.MODEL.RESNETS.WITH_MODULATED_DCN = False  # DCNv2 (offsets and mask) rather than v1
_C.MODEL.RESNETS.DEFORMABLE_GROUPS = 1  # groups of offsets
_C.MODEL.RESNETS.BACKBONE_OUT_CHANNELS = 256 * 4  # channels of the FPN and the head
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256  # channels of the first stage (R-18, R-34: a quarter)
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64  # channels of the stem

_C.MODEL.RETINANET = CN()
_C.MODEL.RETINANET.USE_C5 = True  # P6 from C5; False: from P5

_C.MODEL.ATSS = CN()
_C.MODEL.ATSS.NUM_CLASSES = 81  # with background; 81 gives way to the data set's number
_C.MODEL.ATSS.ANCHOR_SIZES = (64, 128, 256, 512, 1024)  # side of the anchor, by level
_C.MODEL.ATSS.ASPECT_RATIOS = (1.0,)  # height / width
_C.MODEL.ATSS.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # by level
_C.MODEL.ATSS.STRADDLE_THRESH = 0  # accepted for the published files; no effect there either
_C.MODEL.ATSS.OCTAVE = 2.0  # the scales of a location span this factor ...
_C.MODEL.ATSS.SCALES_PER_OCTAVE = 1  # ... in so many steps
_C.MODEL.ATSS.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.ATSS.USE_DCN_IN_TOWER = False  # the last of them deformable
_C.MODEL.ATSS.LOSS_ALPHA = 0.25  # focal loss; quality focal loss does not use it
_C.MODEL.ATSS.LOSS_GAMMA = 2.0  # focal and quality focal loss
_C.MODEL.ATSS.POSITIVE_TYPE = "ATSS"  # "ATSS"; the releases' other types come as assigners
_C.MODEL.ATSS.FG_IOU_THRESHOLD = 0.5  # for POSITIVE_TYPE "IoU"
_C.MODEL.ATSS.BG_IOU_THRESHOLD = 0.4  # for POSITIVE_TYPE "IoU"
_C.MODEL.ATSS.TOPK = 9  # candidate locations of a box on each level
_C.MODEL.ATSS.REGRESSION_TYPE = "BOX"  # "BOX" (deltas of the anchor) | "POINT" (distances)
_C.MODEL.ATSS.REG_LOSS_WEIGHT = 2.0  # weight of the GIoU loss
_C.MODEL.ATSS.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.ATSS.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.ATSS.NMS_TH = 0.6  # IoU above it suppresses
_C.MODEL.ATSS.PRE_NMS_TOP_N = 1000  # candidates of a level that reach NMS

_C.INPUT = CN()
_C.INPUT.MIN_SIZE_TRAIN = (800,)  # short side in pixels, one drawn for each image
_C.INPUT.MIN_SIZE_RANGE_TRAIN = (-1, -1)  # or drawn from this closed range; (-1, -1) = off
_C.INPUT.MAX_SIZE_TRAIN = 1333  # the long side is at most this
_C.INPUT.MIN_SIZE_TEST = 800  # short side in the test
_C.INPUT.MAX_SIZE_TEST = 1333  # long side in the test
_C.INPUT.EXACT_RESIZE = False  # (new) Pillow's own resize: the releases' to the bit, but slower
_C.INPUT.FLIP_PROB_TRAIN = 0.5  # (new) horizontal flip
_C.INPUT.VERTICAL_FLIP_PROB_TRAIN = 0.0  # (new) vertical flip
_C.INPUT.PIXEL_MEAN = [102.9801, 115.9465, 122.7717]  # in the order and range of TO_BGR255
_C.INPUT.PIXEL_STD = [1.0, 1.0, 1.0]  # likewise
_C.INPUT.TO_BGR255 = True  # BGR in 0..255; False: RGB in 0..1

_C.DATASETS = CN()
_C.DATASETS.ROOT = "datasets"  # (new) the catalog's folders lie below it
_C.DATASETS.TRAIN = ()  # catalog names or "coco:<annotations.json>:<image folder>"
_C.DATASETS.TEST = ()  # likewise, each is scored by itself
_C.DATASETS.KEEP_EMPTY = False  # (new) train on images without boxes, too

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # loader processes of each training process
_C.DATALOADER.SIZE_DIVISIBILITY = 0  # a batch is padded to multiples of it; 0 = off
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # wide and tall images in batches of their own

_C.SOLVER = CN()
_C.SOLVER.OPTIMIZER = "sgd"  # (new) "sgd" | "adamw"
_C.SOLVER.SCHEDULE = "multistep"  # (new) "multistep" (STEPS, GAMMA) | "cosine" (to 0 at MAX_ITER)
_C.SOLVER.IMS_PER_BATCH = 16  # images of an iteration, over all processes
_C.SOLVER.ACCUMULATE = 1  # (new) forward-backward passes that an iteration is split into
_C.SOLVER.MAX_ITER = 40000  # iterations
_C.SOLVER.BASE_LR = 0.001  # learning rate
_C.SOLVER.BIAS_LR_FACTOR = 2  # parameters with "bias" in their name: BASE_LR times this
_C.SOLVER.DCONV_OFFSETS_LR_FACTOR = 1.0  # offset convolutions of deformable ones: likewise
_C.SOLVER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.WEIGHT_DECAY = 0.0005  # of weights
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0  # of parameters with "bias" in their name
_C.SOLVER.GAMMA = 0.1  # factor at each of STEPS
_C.SOLVER.STEPS = (30000,)  # iterations at which the learning rate falls
_C.SOLVER.WARMUP_FACTOR = 1.0 / 3  # factor of the first iteration
_C.SOLVER.WARMUP_ITERS = 500  # iterations of warm-up
_C.SOLVER.WARMUP_METHOD = "linear"  # "linear" | "constant"
_C.SOLVER.CLIP_GRAD_NORM = 0.0  # (new) largest norm of the gradient; 0 = off
_C.SOLVER.EMA_DECAY = 0.0  # (new) of averaged weights, which are then the tested ones; 0 = off
_C.SOLVER.CHECKPOINT_PERIOD = 2500  # iterations
_C.SOLVER.LOG_PERIOD = 20  # (new) iterations

_C.TEST = CN()
_C.TEST.IMS_PER_BATCH = 8  # images of a batch, over all processes
_C.TEST.DETECTIONS_PER_IMG = 100  # the best of an image
_C.TEST.PERIOD = 0  # (new) iterations between tests in training; 0 = at the end only
_C.TEST.EXPECTED_RESULTS = []  # [["bbox", "AP", 0.39, 0.002], ...]: value and deviation
_C.TEST.EXPECTED_RESULTS_SIGMA_TOL = 4  # a result further off is an error
_C.TEST.BBOX_AUG = CN()  # test-time augmentation
_C.TEST.BBOX_AUG.ENABLED = False
_C.TEST.BBOX_AUG.H_FLIP = False
_C.TEST.BBOX_AUG.SCALES = ()
_C.TEST.BBOX_AUG.MAX_SIZE = 4000
_C.TEST.BBOX_AUG.SCALE_H_FLIP = False
_C.TEST.BBOX_AUG.VOTE = False
_C.TEST.BBOX_AUG.VOTE_TH = 0.66
_C.TEST.BBOX_AUG.SCALE_RANGES = ()
_C.TEST.BBOX_AUG.MERGE_TYPE = "vote"

# What published YAML files carry along for two-stage models: accepted, without effect.
WITHOUT_EFFECT = (
    "MODEL.RPN",
    "MODEL.ROI_HEADS",
    "MODEL.ROI_BOX_HEAD",
    "PATHS_CATALOG",
)


def default_config() -> CN:
    """A fresh copy of the defaults."""
    return _C.clone()
