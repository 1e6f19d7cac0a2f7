"""Every key of the configuration with its default and its meaning.

Names and defaults are those of the published releases, so that their YAML files and commands run
unchanged; a key that this project adds is marked (new).
"""

from yacs.config import CfgNode as CN

_C = CN()
_C.SEED = 0  # (new) of the weights' initial values, the order of the images and their augmentation
_C.DTYPE = "float32"  # (new) of backbone and towers: "float32" | "bfloat16" (autocast); note that
# PyTorch lets cuDNN convolve "float32" in TF32 on GPUs that have it
_C.OUTPUT_DIR = "."  # log, metrics, checkpoints and detections go here

_C.MODEL = CN()
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # accepted for the published files; no effect
_C.MODEL.RPN_ONLY = False  # accepted for the published files; no effect
_C.MODEL.HEAD = CN()
_C.MODEL.HEAD.NAME = ""  # (new) "atss" | "fcos" | "retinanet" | "dsla", each with a section of its
# own below, or your own: "path/to/file.py:Class" or "module:Class"; "" = the switch that is True
_C.MODEL.HEAD.ARGS = CN()  # (new) keyword arguments of a head of your own
_C.MODEL.ATSS_ON = False  # anchors, with a quality branch
_C.MODEL.FCOS_ON = False  # points, with a quality branch
_C.MODEL.RETINANET_ON = False  # nine anchors at each location, no quality branch
_C.MODEL.DSLA_ON = False  # (new) the head of the DSLA release: points, no quality branch
_C.MODEL.MASK_ON = False  # not carried: an error when True
_C.MODEL.KEYPOINT_ON = False  # not carried: an error when True
_C.MODEL.CLS_AGNOSTIC_BBOX_REG = False  # of two-stage models: without effect
_C.MODEL.DEVICE = "auto"  # "auto" (cuda if there is one) | "cuda" | "cpu"
_C.MODEL.WEIGHT = ""  # "", a file, a URL or "catalog://..."; file.pth#key: its weights under key
_C.MODEL.WEIGHT_OPTIONAL = False  # (new) where the package of "catalog://pip/..." is not installed,
# training starts from scratch, with a line that says so, instead of an error
_C.MODEL.USE_SYNCBN = False  # batch norm over all processes in place of the frozen one
_C.MODEL.CHANNELS_LAST = False  # (new) memory format of the convolutions
_C.MODEL.COMPILE = False  # (new) torch.compile of backbone and towers

_C.MODEL.ASSIGNER = CN()
_C.MODEL.ASSIGNER.NAME = ""  # (new) the rule, a key of ASSIGNERS; "" = the head's own, which of
# ATSS_ON is "dynamic_atss"; your own rule: "module:Class" or "path/to/file.py:Class"
_C.MODEL.ASSIGNER.ARGS = CN()  # (new) keyword arguments of the rule, by their names in Python
_C.MODEL.ASSIGNER.AT_LEAST_ONE = False  # (new) a box without a positive takes its best candidate
_C.MODEL.ASSIGNER.IGNORE_REGIONS = False  # (new) background that lies mostly in a crowd, a
# difficult or an ignored box is not learnt; False: these boxes are dropped, as in the releases

_C.MODEL.ONE_TO_ONE = CN()  # a second branch of any head, beside the one of MODEL.ASSIGNER, which
# is for training: it learns from the same features, to which its gradient does not go
_C.MODEL.ONE_TO_ONE.NAME = ""  # (new) its rule, of one prior for a box: "poto" | "task_aligned" |
# "small_target_aligned" | "topk" | your own; "" = there is no such branch
_C.MODEL.ONE_TO_ONE.ARGS = CN()  # (new) keyword arguments of that rule, beside topk 1 or per_box 1
_C.MODEL.ONE_TO_ONE.LR_FACTOR = 1.0  # (new) of its learning rate; above 1 it learns a prior for a
# box in a shorter training
_C.MODEL.ONE_TO_ONE.PREDICTS = True  # (new) it predicts, without NMS; False: the other branch, with

_C.MODEL.BOX_LOSS = ""  # (new) "iou" | "linear_iou" | "giou" | "path/to/file.py:Name"; "" = the
# head's own
_C.MODEL.CLASS_LOSS = ""  # (new) "focal" | "quality_focal" | "varifocal" | "soft_focal" (of o2f);
# "" = as the labels ask
_C.MODEL.CLASS_LOSS_DIVISOR = ""  # (new) "positives" | "labels" (their sum, as in TOOD); "" = the
# head's own: labels in DSLA where they are soft, else positives; RetinaNet's has its own alone

_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.CONV_BODY = "R-50-FPN-RETINANET"  # "R-{18,34,50,101,152}-FPN-RETINANET" |
# "SWIN-{T,S,B}-FPN-RETINANET" (new) | "MNV2-FPN-RETINANET" | "timm/<name>" (new) |
# "path/to/file.py:Class" (new)
_C.MODEL.BACKBONE.ARGS = CN()  # (new) keyword arguments of a body of your own
_C.MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # parts that are not trained: 0 = none, 1 the stem,
# 2 also the stage of stride 4, ... 5 all; of MNV2: the stem and its 17 blocks, one by one
_C.MODEL.BACKBONE.USE_GN = False  # group norm in the body

_C.MODEL.FPN = CN()
_C.MODEL.FPN.USE_GN = False  # group norm after each of the FPN's convolutions
_C.MODEL.FPN.USE_RELU = False  # relu after each of the FPN's convolutions

_C.MODEL.GROUP_NORM = CN()
_C.MODEL.GROUP_NORM.DIM_PER_GP = -1  # channels of a group; no other value is carried
_C.MODEL.GROUP_NORM.NUM_GROUPS = 32  # groups; no other value is carried
_C.MODEL.GROUP_NORM.EPSILON = 1e-5  # no other value is carried

_C.MODEL.RESNETS = CN()
_C.MODEL.RESNETS.NORM = ""  # (new) "FrozenBN" | "FixedBN" (weights learn, statistics do not) |
# "BN" | "SyncBN" | "GN"; "" = by USE_GN, USE_SYNCBN;
# MNV2: else "BN"; timm/...: else the model's own, and there is no "GN"
_C.MODEL.RESNETS.TRANS_FUNC = "BottleneckWithFixedBatchNorm"  # no other is carried: see NORM
_C.MODEL.RESNETS.STEM_FUNC = "StemWithFixedBatchNorm"  # no other is carried: see NORM
_C.MODEL.RESNETS.RES5_DILATION = 1  # of the last stage; no other value is carried
_C.MODEL.RESNETS.NUM_GROUPS = 1  # groups of the 3x3 convolution (ResNeXt: 32 or 64)
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64  # channels of a group in the first stage
_C.MODEL.RESNETS.STRIDE_IN_1X1 = True  # MSRA weights: True; FAIR and torchvision weights: False
_C.MODEL.RESNETS.STAGE_WITH_DCN = (False, False, False, False)  # deformable 3x3, by stage
_C.MODEL.RESNETS.WITH_MODULATED_DCN = False  # DCNv2 (offsets and mask) rather than v1
_C.MODEL.RESNETS.DEFORMABLE_GROUPS = 1  # groups of offsets
_C.MODEL.RESNETS.BACKBONE_OUT_CHANNELS = 256 * 4  # channels of the FPN and the head
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256  # channels of the first stage (R-18, R-34: a quarter)
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64  # channels of the stem

_C.MODEL.SWIN = CN()
_C.MODEL.SWIN.DROP_PATH = -1.0  # (new) chance to skip the last block; -1 = as published: 0.2, B 0.3

_C.MODEL.ATSS = CN()
_C.MODEL.ATSS.NUM_CLASSES = 81  # with background; 81 gives way to the data set's number
_C.MODEL.ATSS.ANCHOR_SIZES = (64, 128, 256, 512, 1024)  # side of the anchor, by level
_C.MODEL.ATSS.ASPECT_RATIOS = (1.0,)  # height / width
_C.MODEL.ATSS.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # by level; no other value is carried
_C.MODEL.ATSS.STRADDLE_THRESH = 0  # accepted for the published files; without effect there, too
_C.MODEL.ATSS.OCTAVE = 2.0  # the scales of a location span this factor ...
_C.MODEL.ATSS.SCALES_PER_OCTAVE = 1  # ... in so many steps
_C.MODEL.ATSS.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.ATSS.USE_DCN_IN_TOWER = False  # the last of them deformable
_C.MODEL.ATSS.LOSS_ALPHA = 0.25  # focal loss; the soft ones do not use it
_C.MODEL.ATSS.LOSS_GAMMA = 2.0  # focal and quality focal loss
_C.MODEL.ATSS.POSITIVE_TYPE = "ATSS"  # "ATSS" | "SSC" (fcos) | "IoU" (max_iou) | "TOPK" (topk),
# while MODEL.ASSIGNER.NAME is ""
_C.MODEL.ATSS.FG_IOU_THRESHOLD = 0.5  # max_iou: anchors of at least this IoU are positive
_C.MODEL.ATSS.BG_IOU_THRESHOLD = 0.4  # max_iou: anchors below it are background
_C.MODEL.ATSS.TOPK = 9  # candidate locations of a box on each level; topk: anchors of a box
_C.MODEL.ATSS.REGRESSION_TYPE = "BOX"  # "BOX" (deltas of the anchor) | "POINT" (distances) |
# "DISTRIBUTION" (new; of each distance, as in GFL)
_C.MODEL.ATSS.REG_MAX = 16  # (new) the largest distance of a DISTRIBUTION, in strides
_C.MODEL.ATSS.DFL_WEIGHT = 0.25  # (new) weight of its distribution focal loss
_C.MODEL.ATSS.BOX_WEIGHT = "quality"  # (new) what weighs the box loss of a positive: "quality" |
# "score" (the largest of its classes, as in GFL)
_C.MODEL.ATSS.QUALITY_BRANCH = True  # (new) False: none, as in GFL, whose class scores are IoUs
_C.MODEL.ATSS.REG_LOSS_WEIGHT = 2.0  # weight of the GIoU loss
_C.MODEL.ATSS.QUALITY_LOSS_WEIGHT = 1.0  # (new) weight of the quality branch's loss; PAA: 0.5
_C.MODEL.ATSS.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.ATSS.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.ATSS.NMS_TH = 0.6  # IoU above it suppresses; 0: no NMS, as in the releases
_C.MODEL.ATSS.PRE_NMS_TOP_N = 1000  # candidates of a level that reach NMS

# Without effect while RETINANET_ON is False, but for USE_C5.
_C.MODEL.RETINANET = CN()
_C.MODEL.RETINANET.USE_C5 = True  # P6 from C5; False: from P5. Of every head
_C.MODEL.RETINANET.NUM_CLASSES = 81  # with background
_C.MODEL.RETINANET.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # side of the anchor, by level
_C.MODEL.RETINANET.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
_C.MODEL.RETINANET.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # by level
_C.MODEL.RETINANET.STRADDLE_THRESH = 0  # accepted for the published files
_C.MODEL.RETINANET.OCTAVE = 2.0  # the scales of a location span this factor ...
_C.MODEL.RETINANET.SCALES_PER_OCTAVE = 3  # ... in so many steps
_C.MODEL.RETINANET.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.RETINANET.BBOX_REG_WEIGHT = 4.0  # the box loss is divided by it
_C.MODEL.RETINANET.BBOX_REG_BETA = 0.11  # where smooth L1 turns from square to linear
_C.MODEL.RETINANET.PRE_NMS_TOP_N = 1000  # candidates of a level that reach NMS
_C.MODEL.RETINANET.FG_IOU_THRESHOLD = 0.5  # anchors of at least this IoU are positive
_C.MODEL.RETINANET.BG_IOU_THRESHOLD = 0.4  # anchors below it are background
_C.MODEL.RETINANET.LOSS_ALPHA = 0.25  # focal loss
_C.MODEL.RETINANET.LOSS_GAMMA = 2.0  # focal loss
_C.MODEL.RETINANET.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.RETINANET.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.RETINANET.NMS_TH = 0.4  # IoU above it suppresses; 0: no NMS

# Without effect while FCOS_ON is False.
_C.MODEL.FCOS = CN()
_C.MODEL.FCOS.NUM_CLASSES = 81  # with background
_C.MODEL.FCOS.FPN_STRIDES = [8, 16, 32, 64, 128]  # by level
_C.MODEL.FCOS.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.FCOS.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.FCOS.NMS_TH = 0.6  # IoU above it suppresses; 0: no NMS
_C.MODEL.FCOS.PRE_NMS_TOP_N = 1000  # candidates of a level that reach NMS
_C.MODEL.FCOS.LOSS_ALPHA = 0.25  # focal loss
_C.MODEL.FCOS.LOSS_GAMMA = 2.0  # focal loss
_C.MODEL.FCOS.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 0.0  # in strides; 0 = all points inside the box
_C.MODEL.FCOS.IOU_LOSS_TYPE = "iou"  # "iou" | "linear_iou" | "giou"
_C.MODEL.FCOS.NORM_REG_TARGETS = False  # distances in units of the stride
_C.MODEL.FCOS.CENTERNESS_ON_REG = False  # centerness from the box tower
_C.MODEL.FCOS.USE_DCN_IN_TOWER = False  # the last convolution of each tower deformable

# (new) Without effect while DSLA_ON is False. The defaults are the method of the published log.
_C.MODEL.DSLA = CN()
_C.MODEL.DSLA.NUM_CLASSES = 81  # with background
_C.MODEL.DSLA.FPN_STRIDES = [8, 16, 32, 64, 128]  # by level
_C.MODEL.DSLA.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.DSLA.CONV_BIAS = False  # they have a bias, before the group norm
_C.MODEL.DSLA.USE_DCN_IN_TOWER = False  # the last convolution of each tower deformable
_C.MODEL.DSLA.INTERVAL_RELAXATION = True  # the levels' ranges of sizes are widened, falling to 0
_C.MODEL.DSLA.RELAXATION_FACTOR = 0.2  # by this share
_C.MODEL.DSLA.CORE_ZONE = True  # centerness 1 within half a stride of the centre
_C.MODEL.DSLA.IOU_COUPLING = True  # class target = label * IoU of the predicted box, unless the
# rule's label is made of that IoU already
_C.MODEL.DSLA.IOU_ONLY = False  # class target = that IoU alone
_C.MODEL.DSLA.CENTER_SAMPLING = False  # positives only near the centre
_C.MODEL.DSLA.CENTER_SAMPLING_RADIUS = 1.5  # in strides
_C.MODEL.DSLA.NORM_REG_TARGETS = False  # distances in strides, by relu; else in pixels, by exp
_C.MODEL.DSLA.IOU_LOSS_TYPE = "iou"  # "iou" | "linear_iou" | "giou"
_C.MODEL.DSLA.CLS_LOSS_WEIGHT = 1.0  # weight of the class loss
_C.MODEL.DSLA.REG_LOSS_WEIGHT = 1.0  # weight of the box loss
_C.MODEL.DSLA.LOSS_ALPHA = 0.25  # focal loss; the soft ones do not use it
_C.MODEL.DSLA.LOSS_GAMMA = 2.0  # focal and quality focal loss
_C.MODEL.DSLA.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.DSLA.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.DSLA.NMS_TH = 0.6  # IoU above it suppresses
_C.MODEL.DSLA.PRE_NMS_TOP_N = 1000  # points of a level that reach NMS

_C.INPUT = CN()
_C.INPUT.MIN_SIZE_TRAIN = (800,)  # short side in pixels, one drawn for each image
_C.INPUT.MIN_SIZE_RANGE_TRAIN = (-1, -1)  # or drawn from this closed range; (-1, -1) = off
_C.INPUT.MAX_SIZE_TRAIN = 1333  # the long side is at most this
_C.INPUT.MIN_SIZE_TEST = 800  # short side in the test
_C.INPUT.MAX_SIZE_TEST = 1333  # long side in the test
_C.INPUT.EXIF = "auto"  # (new) "apply" turns pictures upright by their EXIF orientation, as viewers
# and labelling tools show them; "ignore": pixels as stored; "auto": as the sizes in the annotations
# say, else "apply", but "ignore" for the catalog's COCO and VOC sets, as released
_C.INPUT.MAX_PIXELS = 300_000_000  # (new) a picture with more is refused before it is decoded
_C.INPUT.BITS = 0  # (new) of 16-bit files: how many are used, 8 to 16 (cameras: 10, 12, 14); 0 = 16
_C.INPUT.EXACT_RESIZE = False  # (new) Pillow's own resize: the releases' to the bit, but slower
_C.INPUT.FLIP_PROB_TRAIN = 0.5  # (new) horizontal flip
_C.INPUT.VERTICAL_FLIP_PROB_TRAIN = 0.0  # (new) vertical flip

# Colours: maskrcnn-benchmark's names; factors from 1 - x to 1 + x, in random order; 0 = off.
_C.INPUT.BRIGHTNESS = 0.0  # (new)
_C.INPUT.CONTRAST = 0.0  # (new)
_C.INPUT.SATURATION = 0.0  # (new)
_C.INPUT.HUE = 0.0  # (new) shift from -x to x turns of the colour circle, at most 0.5
_C.INPUT.MIN_VISIBLE = 0.3  # (new) a box that CROP, LSJ or MOSAIC cuts to less of its area is lost

_C.INPUT.AUGMENTATIONS = ()  # (new) your own, after those above and below: "path/to/file.py:Name"

_C.INPUT.CROP = CN()  # a random window, before the resize; it holds a box if the image has one
_C.INPUT.CROP.PROB = 0.0  # (new) 0 = off
_C.INPUT.CROP.SIDE = (0.4, 1.0)  # (new) its sides, drawn from these fractions of the image's

_C.INPUT.LSJ = CN()  # large-scale jitter: in place of MIN_SIZE_TRAIN and its relatives
_C.INPUT.LSJ.ENABLED = False  # (new)
_C.INPUT.LSJ.SIZE = (1024, 1024)  # (new) height and width that images are cut or padded to
_C.INPUT.LSJ.SCALE = (0.1, 2.0)  # (new) range of the scale; at 1 the image just fits into SIZE

_C.INPUT.MOSAIC = CN()  # an image and three others as the quarters of one
_C.INPUT.MOSAIC.PROB = 0.0  # (new) 0 = off
_C.INPUT.MOSAIC.OFF_AT_END = 0.1  # (new) fraction of MAX_ITER, at the end, that has none

_C.INPUT.PIXEL_MEAN = [102.9801, 115.9465, 122.7717]  # in the order and range of TO_BGR255
_C.INPUT.PIXEL_STD = [1.0, 1.0, 1.0]  # in the order and range of TO_BGR255
_C.INPUT.TO_BGR255 = True  # BGR in 0..255; False: RGB in 0..1

_C.DATASETS = CN()
_C.DATASETS.ROOT = "datasets"  # (new) the catalog's folders lie below it
_C.DATASETS.TRAIN = ()  # catalog names, "coco:<annotations.json>:<image folder>",
# "voc:<devkit folder>:<split>", "yolo:<data.yaml>:<split>" or, of a format of your own,
# "path/to/file.py:Class:<what it reads>"; several, with commas between them, are joined
_C.DATASETS.TEST = ()  # names as in TRAIN; each is scored by itself
_C.DATASETS.KEEP_EMPTY = False  # (new) train on images without boxes, too
_C.DATASETS.ALLOW_OUTSIDE = False  # (new) names of images, and links, may lead out of the image
# folder; else they are refused, as a file from elsewhere could name any file of this machine
_C.DATASETS.SURVEY = True  # (new) look through annotations and file headers before the first
# iteration: what is wrong stops the run, what is odd is a line of the log


_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # loader processes of each training process
_C.DATALOADER.SIZE_DIVISIBILITY = 32  # a batch is padded to multiples of it; 0 = off (the
# releases' default, which none of their files for dense detectors leaves)
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # wide and tall images in batches of their own
_C.DATALOADER.REPEAT_FACTOR_THRESHOLD = 0.0  # (new) images with a class that fewer than this
# fraction of the images hold are seen more often (LVIS: 0.001); 0 = off

_C.SOLVER = CN()
_C.SOLVER.OPTIMIZER = "sgd"  # (new) "sgd" | "adamw"
_C.SOLVER.SCHEDULE = "multistep"  # (new) "multistep" (STEPS, GAMMA) | "cosine" (to 0 at MAX_ITER)
_C.SOLVER.IMS_PER_BATCH = 16  # images of an iteration, over all processes
_C.SOLVER.ACCUMULATE = 1  # (new) parts in which the network takes the images of an iteration; the
# step is that of the whole. Less memory for more time: see docs/train.md
_C.SOLVER.MAX_ITER = 40000  # iterations of the training
_C.SOLVER.BASE_LR = 0.001  # learning rate
_C.SOLVER.BIAS_LR_FACTOR = 2  # parameters with "bias" in their name: BASE_LR times this
_C.SOLVER.NORM_BIAS_LR_FACTOR = -1.0  # (new) of the biases of norms and of offset convolutions,
# which then decay like weights (1: as in mmdetection); -1 = like all biases
_C.SOLVER.DCONV_OFFSETS_LR_FACTOR = 1.0  # offsets of deformable convolutions: BASE_LR times this
_C.SOLVER.MOMENTUM = 0.9  # of SGD
_C.SOLVER.WEIGHT_DECAY = 0.0005  # of weights
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0  # of parameters with "bias" in their name
_C.SOLVER.WEIGHT_DECAY_NORM = -1.0  # (new) of norms (weights and biases) and position tables; -1 =
# weights and tables as WEIGHT_DECAY, biases as WEIGHT_DECAY_BIAS. Transformers: 0
_C.SOLVER.GAMMA = 0.1  # factor at each of STEPS
_C.SOLVER.STEPS = (30000,)  # iterations at which the learning rate falls
_C.SOLVER.WARMUP_FACTOR = 1.0 / 3  # factor of the first iteration
_C.SOLVER.WARMUP_ITERS = 500  # iterations of warm-up
_C.SOLVER.WARMUP_METHOD = "linear"  # "linear" | "constant"
_C.SOLVER.CLIP_GRAD_NORM = 0.0  # (new) largest norm of the gradient; 0 = off
_C.SOLVER.NOT_FINITE = "stop"  # (new) where a loss or gradient is not finite: "stop" | "skip" the
# step | "rewind" to the newest checkpoint, and on from there with smaller learning rates
_C.SOLVER.NOT_FINITE_LIMIT = 5  # (new) skips or rewinds in a row, without progress; then it stops
_C.SOLVER.NOT_FINITE_LR_FACTOR = 0.5  # (new) of all learning rates, at each rewind
_C.SOLVER.EMA_DECAY = 0.0  # (new) of averaged weights, which are then the tested ones; 0 = off;
# they lag by 1 / (1 - it) iterations: not for runs of few times that, but with EMA_RAMP
_C.SOLVER.EMA_RAMP = False  # (new) the n-th average keeps (1 + n) / (10 + n) at most, so that it
# lags by no more than a ninth of the run, however short that is
_C.SOLVER.CHECKPOINT_PERIOD = 2500  # iterations between checkpoints
_C.SOLVER.KEEP_CHECKPOINTS = 0  # (new) the newest model_<iteration>.pth that stay; 0 = all;
# model_final.pth and model_best.pth always do
_C.SOLVER.LOG_PERIOD = 20  # (new) iterations between lines of the log
_C.SOLVER.PICTURE_PERIOD = 1000  # (new) iterations between pictures of the assignment, of training
# images, on TensorBoard and Weights & Biases, after those of the first; 0 = none
_C.SOLVER.TIMEOUT = 600.0  # (new) seconds, up to 30 days, after which a process that has gone or
# stands still ends the others, and after 0.8 of them a loader worker the run; longer than any
# iteration

_C.WANDB = CN()
_C.WANDB.PROJECT = ""  # (new) of Weights & Biases, to which the run is logged, too; "" = not at all
_C.WANDB.NAME = ""  # (new) of the run there; "" = the last part of OUTPUT_DIR

_C.TEST = CN()
_C.TEST.IMS_PER_BATCH = 8  # images of a batch, over all processes
_C.TEST.DETECTIONS_PER_IMG = 100  # the best of an image; as many count in the scores, beside which
# those of COCO's own 100 are shown where it is another number
_C.TEST.NMS = True  # (new) False: the best scores of an image as they are, for rules of one prior
# for a box, as poto
_C.TEST.SCORE_VOTING = False  # (new) after NMS, a box becomes the mean of its class's candidates,
# weighted by their scores and their IoUs with it, as in PAA
_C.TEST.PERIOD = 0  # (new) iterations between tests in training; 0 = at the end only
_C.TEST.BEST_METRIC = ""  # (new) model_best.pth is of the test with the largest of this number:
# "AP", "AP50", ...; of VOC sets "VOC_mAP", "VOC07_mAP", too; on the first test set; "" = off
_C.TEST.PATIENCE = 0  # (new) the run ends after so many tests without a better one; 0 = never
_C.TEST.EXPECTED_RESULTS = []  # [["bbox", "AP", 0.39, 0.002], ...]: value and deviation
_C.TEST.EXPECTED_RESULTS_SIGMA_TOL = 4  # a result further off is an error

# Test-time augmentation. A pass reads the keys of the model's own head, as a plain test does. The
# joining of the passes reads these, as in the release, whichever head the model has:
#   VOTE False                            MODEL.FCOS.NMS_TH, TEST.DETECTIONS_PER_IMG
#   VOTE True, MERGE_TYPE "vote"          VOTE_TH, MODEL.ATSS.PRE_NMS_TOP_N (boxes kept)
#   VOTE True, MERGE_TYPE "soft-vote"     these and MODEL.RETINANET.INFERENCE_TH (least score left)
#   VOTE True, MERGE_TYPE "nms"           MODEL.ATSS.NMS_TH, MODEL.ATSS.PRE_NMS_TOP_N (boxes kept)
# With a threshold of 0 for NMS (MODEL.FCOS.NMS_TH, with VOTE MODEL.ATSS.NMS_TH) nothing is merged.
_C.TEST.BBOX_AUG = CN()
_C.TEST.BBOX_AUG.ENABLED = False  # tests (in training, too) see each image in several passes
_C.TEST.BBOX_AUG.H_FLIP = False  # a pass over the mirrored image
_C.TEST.BBOX_AUG.SCALES = ()  # short sides of further passes
_C.TEST.BBOX_AUG.MAX_SIZE = 4000  # long side of these; with VOTE, INPUT.MAX_SIZE_TEST of the
# SCALES below 800
_C.TEST.BBOX_AUG.SCALE_H_FLIP = False  # each of these mirrored, too
_C.TEST.BBOX_AUG.VOTE = False  # False: one NMS over the candidates of all passes.
# True: NMS in each pass, then MERGE_TYPE over what each of them keeps
_C.TEST.BBOX_AUG.VOTE_TH = 0.66  # IoU of boxes that vote together
_C.TEST.BBOX_AUG.SCALE_RANGES = ()  # (low, high) for each of SCALES, of the boxes that count there
# with VOTE: low < sqrt(area) < high, in pixels of that scale; () = all
_C.TEST.BBOX_AUG.MERGE_TYPE = "vote"  # with VOTE: "vote" (their mean) | "soft-vote" (and the voters
# with what is left of their score, if enough) | "nms"


def default_config() -> CN:
    """A fresh copy of the defaults."""
    return _C.clone()
