"""Defines every key of the configuration, with its default and its meaning.

Names and defaults are those of the published releases, so that their YAML files and commands run
unchanged. A key that this project adds is marked (new). --help and the page of all keys show the
comments.
"""

from yacs.config import CfgNode as CN

_C = CN()
_C.SEED = 0  # (new) seed of initial weights, order of the images and augmentation
_C.DTYPE = "float32"  # (new) type of backbone and towers: "float32" | "bfloat16" (autocast). By
# default, PyTorch computes "float32" convolutions in TF32 on GPUs that have it
_C.OUTPUT_DIR = "."  # log, metrics, checkpoints and detections go here

_C.MODEL = CN()
_C.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"  # accepted for the published files; no effect
_C.MODEL.RPN_ONLY = False  # accepted for the published files; no effect
_C.MODEL.HEAD = CN()
_C.MODEL.HEAD.NAME = ""  # (new) "atss" | "fcos" | "retinanet" | "dsla" (see the sections MODEL.ATSS
# to MODEL.DSLA), or your head: "path/to/file.py:Class" or "module:Class"; "" = the head whose
# switch ..._ON is True
_C.MODEL.HEAD.ARGS = CN()  # (new) keyword arguments of your head
_C.MODEL.ATSS_ON = False  # anchors, with a quality branch
_C.MODEL.FCOS_ON = False  # points, with a quality branch
_C.MODEL.RETINANET_ON = False  # nine anchors at each location, no quality branch
_C.MODEL.DSLA_ON = False  # (new) the head of the DSLA release: points, no quality branch
_C.MODEL.MASK_ON = False  # not supported: True is an error
_C.MODEL.KEYPOINT_ON = False  # not supported: True is an error
_C.MODEL.CLS_AGNOSTIC_BBOX_REG = False  # accepted for the published files; no effect
_C.MODEL.DEVICE = "auto"  # "auto" (cuda if there is one) | "cuda" | "cpu"
_C.MODEL.WEIGHT = ""  # "", a file, a URL or "catalog://..."; "file.pth#key" reads the entry `key`
_C.MODEL.WEIGHT_OPTIONAL = False  # (new) True: if the package of "catalog://pip/..." is missing,
# train from scratch and log it, instead of raising an error
_C.MODEL.USE_SYNCBN = False  # batch norm over all processes instead of the frozen one
_C.MODEL.CHANNELS_LAST = False  # (new) memory format of the convolutions
_C.MODEL.COMPILE = False  # (new) torch.compile of backbone and towers
_C.MODEL.CUDA_GRAPHS = False  # (new) on a GPU, records both as CUDA graphs in training

_C.MODEL.ASSIGNER = CN()
_C.MODEL.ASSIGNER.NAME = ""  # (new) the rule: a key of ASSIGNERS, or your rule, "module:Class" or
# "path/to/file.py:Class"; "" = the head's default rule ("dynamic_atss" with ATSS_ON)
_C.MODEL.ASSIGNER.ARGS = CN()  # (new) keyword arguments of the rule, by their names in Python
_C.MODEL.ASSIGNER.AT_LEAST_ONE = False  # (new) a box without a positive takes its best candidate
_C.MODEL.ASSIGNER.IGNORE_REGIONS = False  # (new) True: priors that lie mostly in a crowd, difficult
# or ignored box are not learnt as background; False: such boxes are dropped, as in the releases

_C.MODEL.ONE_TO_ONE = CN()  # a second branch of the head, with one prior for each box. The branch
# of MODEL.ASSIGNER trains the features; this one learns from them and sends no gradient to them
_C.MODEL.ONE_TO_ONE.NAME = ""  # (new) rule of a second branch, with one prior for each box:
# "poto" | "task_aligned" | "small_target_aligned" | "topk" | your rule; "" = no such branch
_C.MODEL.ONE_TO_ONE.ARGS = CN()  # (new) keyword arguments of that rule; topk 1 or per_box 1 is set
_C.MODEL.ONE_TO_ONE.LR_FACTOR = 1.0  # (new) factor of the learning rate of this branch; above 1
# suits a short training
_C.MODEL.ONE_TO_ONE.PREDICTS = True  # (new) True: this branch predicts, without NMS; False: the
# branch of MODEL.ASSIGNER predicts, with NMS

_C.MODEL.BOX_LOSS = ""  # (new) "iou" | "linear_iou" | "giou" | "path/to/file.py:Name"; "" = the
# head's default
_C.MODEL.CLASS_LOSS = ""  # (new) "focal" | "quality_focal" | "varifocal" | "soft_focal" (of o2f);
# "" = the one that fits the labels of the rule
_C.MODEL.CLASS_LOSS_DIVISOR = ""  # (new) "positives" | "labels" (their sum, as in TOOD); "" = the
# head's default: the labels in DSLA if they are soft, else the positives; RetinaNet allows only ""

_C.MODEL.BACKBONE = CN()
_C.MODEL.BACKBONE.CONV_BODY = "R-50-FPN-RETINANET"  # "R-{18,34,50,101,152}-FPN-RETINANET" |
# "SWIN-{T,S,B}-FPN-RETINANET" (new) | "MNV2-FPN-RETINANET" | "timm/<name>" (new) |
# "path/to/file.py:Class" (new)
_C.MODEL.BACKBONE.ARGS = CN()  # (new) keyword arguments of your body
_C.MODEL.BACKBONE.FREEZE_CONV_BODY_AT = 2  # parts that are not trained: 0 = none, 1 = the stem,
# 2 = also the stage of stride 4, ... 5 = all; MNV2 counts the stem and each of its 17 blocks
_C.MODEL.BACKBONE.USE_GN = False  # group norm in the body

_C.MODEL.FPN = CN()
_C.MODEL.FPN.USE_GN = False  # group norm after each of the FPN's convolutions
_C.MODEL.FPN.USE_RELU = False  # relu after each of the FPN's convolutions

_C.MODEL.GROUP_NORM = CN()
_C.MODEL.GROUP_NORM.DIM_PER_GP = -1  # channels of a group; only this value is supported
_C.MODEL.GROUP_NORM.NUM_GROUPS = 32  # groups; only this value is supported
_C.MODEL.GROUP_NORM.EPSILON = 1e-5  # only this value is supported

_C.MODEL.RESNETS = CN()
_C.MODEL.RESNETS.NORM = ""  # (new) "FrozenBN" | "FixedBN" (weights learn, statistics do not) |
# "BN" | "SyncBN" | "GN"; "" = by USE_GN and USE_SYNCBN, else "FrozenBN", in MNV2 "BN", in timm/...
# the model's norm; timm/... has no "GN"
_C.MODEL.RESNETS.TRANS_FUNC = "BottleneckWithFixedBatchNorm"  # the only supported value; use NORM
_C.MODEL.RESNETS.STEM_FUNC = "StemWithFixedBatchNorm"  # the only supported value; use NORM
_C.MODEL.RESNETS.RES5_DILATION = 1  # dilation of the last stage; only this value is supported
_C.MODEL.RESNETS.NUM_GROUPS = 1  # groups of the 3x3 convolution (ResNeXt: 32 or 64)
_C.MODEL.RESNETS.WIDTH_PER_GROUP = 64  # channels of a group in the first stage
_C.MODEL.RESNETS.STRIDE_IN_1X1 = True  # MSRA weights: True; FAIR and torchvision weights: False
_C.MODEL.RESNETS.STAGE_WITH_DCN = (False, False, False, False)  # deformable 3x3, by stage
_C.MODEL.RESNETS.WITH_MODULATED_DCN = False  # DCNv2 (offsets and mask) instead of v1
_C.MODEL.RESNETS.DEFORMABLE_GROUPS = 1  # groups of offsets
_C.MODEL.RESNETS.BACKBONE_OUT_CHANNELS = 256 * 4  # channels of the FPN and the head
_C.MODEL.RESNETS.RES2_OUT_CHANNELS = 256  # channels of the first stage (R-18, R-34: a quarter)
_C.MODEL.RESNETS.STEM_OUT_CHANNELS = 64  # channels of the stem

_C.MODEL.SWIN = CN()
_C.MODEL.SWIN.DROP_PATH = -1.0  # (new) chance to skip the last block; -1 = as published: 0.2, B 0.3

_C.MODEL.ATSS = CN()
_C.MODEL.ATSS.NUM_CLASSES = 81  # with background; 81 = the number of the data set
_C.MODEL.ATSS.ANCHOR_SIZES = (64, 128, 256, 512, 1024)  # side of the anchor, by level
_C.MODEL.ATSS.ASPECT_RATIOS = (1.0,)  # height / width
_C.MODEL.ATSS.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # by level; only this value is supported
_C.MODEL.ATSS.STRADDLE_THRESH = 0  # accepted for the published files; no effect
_C.MODEL.ATSS.OCTAVE = 2.0  # the scales of a location span this factor ...
_C.MODEL.ATSS.SCALES_PER_OCTAVE = 1  # ... in so many steps
_C.MODEL.ATSS.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.ATSS.USE_DCN_IN_TOWER = False  # makes the last convolution of each tower deformable
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
_C.MODEL.ATSS.BOX_WEIGHT = "quality"  # (new) weight of a positive's box loss: "quality" | "score"
# (the largest of its class scores, as in GFL)
_C.MODEL.ATSS.QUALITY_BRANCH = True  # (new) False: none, as in GFL, whose class scores are IoUs
_C.MODEL.ATSS.REG_LOSS_WEIGHT = 2.0  # weight of the GIoU loss
_C.MODEL.ATSS.QUALITY_LOSS_WEIGHT = 1.0  # (new) weight of the quality branch's loss; PAA: 0.5
_C.MODEL.ATSS.PRIOR_PROB = 0.01  # initial score of every class
_C.MODEL.ATSS.INFERENCE_TH = 0.05  # class scores above it are candidates
_C.MODEL.ATSS.NMS_TH = 0.6  # IoU above it suppresses; 0: no NMS, as in the releases
_C.MODEL.ATSS.PRE_NMS_TOP_N = 1000  # candidates of a level that reach NMS

# Used only with RETINANET_ON, but for USE_C5.
_C.MODEL.RETINANET = CN()
_C.MODEL.RETINANET.USE_C5 = True  # makes P6 from C5; False: from P5. Applies to every head
_C.MODEL.RETINANET.NUM_CLASSES = 81  # with background
_C.MODEL.RETINANET.ANCHOR_SIZES = (32, 64, 128, 256, 512)  # side of the anchor, by level
_C.MODEL.RETINANET.ASPECT_RATIOS = (0.5, 1.0, 2.0)  # height / width
_C.MODEL.RETINANET.ANCHOR_STRIDES = (8, 16, 32, 64, 128)  # by level
_C.MODEL.RETINANET.STRADDLE_THRESH = 0  # accepted for the published files; no effect
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

# Used only with FCOS_ON.
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
_C.MODEL.FCOS.CENTER_SAMPLING_RADIUS = 0.0  # largest distance of positives from the centre, in
# strides; 0 = all points inside the box
_C.MODEL.FCOS.IOU_LOSS_TYPE = "iou"  # "iou" | "linear_iou" | "giou"
_C.MODEL.FCOS.NORM_REG_TARGETS = False  # distances in units of the stride
_C.MODEL.FCOS.CENTERNESS_ON_REG = False  # centerness from the box tower
_C.MODEL.FCOS.USE_DCN_IN_TOWER = False  # makes the last convolution of each tower deformable

# (new) Used only with DSLA_ON. The defaults are the method of the published log.
_C.MODEL.DSLA = CN()
_C.MODEL.DSLA.NUM_CLASSES = 81  # with background
_C.MODEL.DSLA.FPN_STRIDES = [8, 16, 32, 64, 128]  # by level
_C.MODEL.DSLA.NUM_CONVS = 4  # convolutions of each tower
_C.MODEL.DSLA.CONV_BIAS = False  # gives these convolutions a bias, before the group norm
_C.MODEL.DSLA.USE_DCN_IN_TOWER = False  # makes the last convolution of each tower deformable
_C.MODEL.DSLA.INTERVAL_RELAXATION = True  # widens the levels' size ranges; labels fall to 0 there
_C.MODEL.DSLA.RELAXATION_FACTOR = 0.2  # widens each range by this share
_C.MODEL.DSLA.CORE_ZONE = True  # sets the centerness to 1 within half a stride of the centre
_C.MODEL.DSLA.IOU_COUPLING = True  # class target = label * IoU of the predicted box, unless the
# rule's label contains that IoU already
_C.MODEL.DSLA.IOU_ONLY = False  # class target = that IoU, without the label
_C.MODEL.DSLA.CENTER_SAMPLING = False  # True: positives only near the centre of a box
_C.MODEL.DSLA.CENTER_SAMPLING_RADIUS = 1.5  # largest distance from the centre, in strides
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
_C.INPUT.MIN_SIZE_TRAIN = (800,)  # short sides in pixels; one is drawn for each image
_C.INPUT.MIN_SIZE_RANGE_TRAIN = (-1, -1)  # draws the short side from this closed range instead;
# (-1, -1) = off
_C.INPUT.MAX_SIZE_TRAIN = 1333  # the long side is at most this
_C.INPUT.MIN_SIZE_TEST = 800  # short side in the test
_C.INPUT.MAX_SIZE_TEST = 1333  # long side in the test
_C.INPUT.EXIF = "auto"  # (new) "apply" turns pictures upright by their EXIF orientation, as viewers
# and labelling tools show them; "ignore" takes pixels as stored; "auto" follows the sizes in the
# annotations, else applies it, but ignores it for the catalog's COCO and VOC sets, as released
_C.INPUT.MAX_PIXELS = 300_000_000  # (new) a picture with more is refused before it is decoded
_C.INPUT.BITS = 0  # (new) bits that 16-bit files use, 8 to 16 (cameras: 10, 12, 14); 0 = 16
_C.INPUT.EXACT_RESIZE = False  # (new) resizes by Pillow: slower, but to the bit as in the releases
_C.INPUT.FLIP_PROB_TRAIN = 0.5  # (new) horizontal flip
_C.INPUT.VERTICAL_FLIP_PROB_TRAIN = 0.0  # (new) vertical flip

# Colours, by maskrcnn-benchmark's names, are changed in random order.
_C.INPUT.BRIGHTNESS = 0.0  # (new) x: a factor from 1 - x to 1 + x; 0 = off
_C.INPUT.CONTRAST = 0.0  # (new) x: a factor from 1 - x to 1 + x; 0 = off
_C.INPUT.SATURATION = 0.0  # (new) x: a factor from 1 - x to 1 + x; 0 = off
_C.INPUT.HUE = 0.0  # (new) x: a shift from -x to x turns of the colour circle, at most 0.5; 0 = off
_C.INPUT.MIN_VISIBLE = 0.3  # (new) drops a box if CROP, LSJ or MOSAIC leaves less of its area

_C.INPUT.AUGMENTATIONS = ()  # (new) your augmentations, which run last: "path/to/file.py:Name"

_C.INPUT.CROP = CN()  # a random window, before the resize; it holds a box if the image has one
_C.INPUT.CROP.PROB = 0.0  # (new) probability; 0 = off
_C.INPUT.CROP.SIDE = (0.4, 1.0)  # (new) range of the window's sides, as fractions of the image's

_C.INPUT.LSJ = CN()  # large-scale jitter, instead of MIN_SIZE_TRAIN, MIN_SIZE_RANGE_TRAIN and
# MAX_SIZE_TRAIN
_C.INPUT.LSJ.ENABLED = False  # (new) True: resize by large-scale jitter
_C.INPUT.LSJ.SIZE = (1024, 1024)  # (new) height and width that images are cut or padded to
_C.INPUT.LSJ.SCALE = (0.1, 2.0)  # (new) range of the scale; at 1 the image just fits into SIZE

_C.INPUT.MOSAIC = CN()  # joins an image and three others as the quarters of one
_C.INPUT.MOSAIC.PROB = 0.0  # (new) probability; 0 = off
_C.INPUT.MOSAIC.OFF_AT_END = 0.1  # (new) switches it off for this fraction of MAX_ITER at the end

_C.INPUT.PIXEL_MEAN = [102.9801, 115.9465, 122.7717]  # in the order and range of TO_BGR255
_C.INPUT.PIXEL_STD = [1.0, 1.0, 1.0]  # in the order and range of TO_BGR255
_C.INPUT.TO_BGR255 = True  # BGR in 0..255; False: RGB in 0..1

_C.DATASETS = CN()
_C.DATASETS.ROOT = "datasets"  # (new) the folder that contains the data sets of the catalog
_C.DATASETS.TRAIN = ()  # catalog names, "coco:<annotations.json>:<image folder>",
# "voc:<devkit folder>:<split>", "yolo:<data.yaml>:<split>" or, for your format,
# "path/to/file.py:Class:<what it reads>"; several names, separated by commas, are joined
_C.DATASETS.TEST = ()  # names as in TRAIN; each set is scored separately
_C.DATASETS.KEEP_EMPTY = False  # (new) trains on images without boxes, too
_C.DATASETS.ALLOW_OUTSIDE = False  # (new) lets names of images, and links, lead out of the image
# folder; False refuses them, as an annotation file could name any file of this machine
_C.DATASETS.SURVEY = True  # (new) checks annotations and image headers before the first iteration:
# an error stops the run, an oddity is logged

_C.DATALOADER = CN()
_C.DATALOADER.NUM_WORKERS = 4  # loader processes of each training process
_C.DATALOADER.SIZE_DIVISIBILITY = 32  # pads the sides of a batch to multiples of it; 0 = off (the
# default of the releases, but all of their files for dense detectors set 32)
_C.DATALOADER.ASPECT_RATIO_GROUPING = True  # puts wide and tall images into separate batches
_C.DATALOADER.REPEAT_FACTOR_THRESHOLD = 0.0  # (new) repeats images of rare classes, those in fewer
# than this fraction of the images (LVIS: 0.001); 0 = off

_C.SOLVER = CN()
_C.SOLVER.OPTIMIZER = "sgd"  # (new) "sgd" | "adamw"
_C.SOLVER.SCHEDULE = "multistep"  # (new) "multistep" (STEPS, GAMMA) | "cosine" (to 0 at MAX_ITER)
_C.SOLVER.IMS_PER_BATCH = 16  # images of an iteration, over all processes
_C.SOLVER.ACCUMULATE = 1  # (new) splits the images of an iteration into so many passes, with the
# same step. Needs less memory and more time: see docs/train.md
_C.SOLVER.MAX_ITER = 40000  # iterations of the training
_C.SOLVER.BASE_LR = 0.001  # learning rate
_C.SOLVER.BIAS_LR_FACTOR = 2  # parameters with "bias" in their name learn at BASE_LR times this
_C.SOLVER.NORM_BIAS_LR_FACTOR = -1.0  # (new) factor for biases of norms and of offset convolutions,
# which then decay like weights (1: as in mmdetection); -1 = they learn like all biases
_C.SOLVER.DCONV_OFFSETS_LR_FACTOR = 1.0  # offsets of deformable convolutions learn at BASE_LR times
# this
_C.SOLVER.MOMENTUM = 0.9  # momentum of SGD
_C.SOLVER.FUSED = True  # (new) on a GPU, one kernel updates all weights
_C.SOLVER.WEIGHT_DECAY = 0.0005  # weight decay of weights
_C.SOLVER.WEIGHT_DECAY_BIAS = 0.0  # weight decay of parameters with "bias" in their name
_C.SOLVER.WEIGHT_DECAY_NORM = -1.0  # (new) weight decay of norms (weights and biases) and position
# tables; -1 = WEIGHT_DECAY for weights and tables, WEIGHT_DECAY_BIAS for biases. Transformers: 0
_C.SOLVER.GAMMA = 0.1  # factor of the learning rate at each of STEPS
_C.SOLVER.STEPS = (30000,)  # iterations at which the learning rate falls
_C.SOLVER.WARMUP_FACTOR = 1.0 / 3  # factor of the learning rate in the first iteration
_C.SOLVER.WARMUP_ITERS = 500  # iterations of warm-up
_C.SOLVER.WARMUP_METHOD = "linear"  # "linear" | "constant"
_C.SOLVER.CLIP_GRAD_NORM = 0.0  # (new) largest norm of the gradient; 0 = off
_C.SOLVER.NOT_FINITE = "stop"  # (new) if a loss or gradient is not finite: "stop" the run | "skip"
# the step | "rewind" to the newest checkpoint and continue with smaller learning rates
_C.SOLVER.NOT_FINITE_LIMIT = 5  # (new) so many skips or rewinds in a row are allowed
_C.SOLVER.NOT_FINITE_LR_FACTOR = 0.5  # (new) factor of all learning rates at each rewind
_C.SOLVER.EMA_DECAY = 0.0  # (new) decay of the averaged weights, which are then tested; 0 = off.
# They lag by 1 / (1 - EMA_DECAY) iterations: in a run that is not much longer, set EMA_RAMP
_C.SOLVER.EMA_RAMP = False  # (new) limits the n-th decay to (1 + n) / (10 + n), so that the average
# lags by at most a ninth of the run
_C.SOLVER.CHECKPOINT_PERIOD = 2500  # iterations between checkpoints
_C.SOLVER.KEEP_CHECKPOINTS = 0  # (new) keeps so many of the newest model_<iteration>.pth; 0 = all;
# model_final.pth and model_best.pth are always kept
_C.SOLVER.LOG_PERIOD = 20  # (new) iterations between lines of the log
_C.SOLVER.PICTURE_PERIOD = 1000  # (new) iterations between pictures of the assignment, after those
# of the first iteration, on TensorBoard and Weights & Biases; 0 = none
_C.SOLVER.TIMEOUT = 600.0  # (new) seconds, up to 30 days, after which a lost or stuck process ends
# the run (a loader worker: after 0.8 of it); must be longer than any iteration

_C.WANDB = CN()
_C.WANDB.PROJECT = ""  # (new) project on Weights & Biases to which the run is logged; "" = none
_C.WANDB.NAME = ""  # (new) name of the run there; "" = the last part of OUTPUT_DIR

_C.TEST = CN()
_C.TEST.IMS_PER_BATCH = 8  # images of a batch, over all processes
_C.TEST.DETECTIONS_PER_IMG = 100  # keeps and scores so many of the best detections of an image;
# with another number than 100, the scores of 100, which is COCO's, are shown, too
_C.TEST.NMS = True  # (new) False: keeps the best scores without NMS, for rules with one prior for
# each box, such as poto
_C.TEST.SCORE_VOTING = False  # (new) after NMS, replaces a box by the mean of the candidates of its
# class, weighted by their scores and their IoUs with it, as in PAA
_C.TEST.PERIOD = 0  # (new) iterations between tests in training; 0 = only at the end
_C.TEST.ASYNC = False  # (new) computes the scores of these tests beside the next iterations
_C.TEST.BEST_METRIC = ""  # (new) saves model_best.pth at the test with the largest such number of
# the first test set: "AP", "AP50", ..., for VOC sets also "VOC_mAP", "VOC07_mAP"; "" = off
_C.TEST.PATIENCE = 0  # (new) ends the run after so many tests without a better one; 0 = never
_C.TEST.EXPECTED_RESULTS = []  # [["bbox", "AP", 0.39, 0.002], ...]: value and deviation
_C.TEST.EXPECTED_RESULTS_SIGMA_TOL = 4  # so many deviations are allowed; more is an error

# Test-time augmentation. A pass reads the keys of the model's head, as a plain test does. Merging
# the passes reads these keys, as in the release, for every head:
#   VOTE False                            MODEL.FCOS.NMS_TH, TEST.DETECTIONS_PER_IMG
#   VOTE True, MERGE_TYPE "vote"          VOTE_TH, MODEL.ATSS.PRE_NMS_TOP_N (boxes kept)
#   VOTE True, MERGE_TYPE "soft-vote"     these and MODEL.RETINANET.INFERENCE_TH (least score left)
#   VOTE True, MERGE_TYPE "nms"           MODEL.ATSS.NMS_TH, MODEL.ATSS.PRE_NMS_TOP_N (boxes kept)
# A threshold of 0 for NMS (MODEL.FCOS.NMS_TH, with VOTE MODEL.ATSS.NMS_TH) switches merging off.
_C.TEST.BBOX_AUG = CN()
_C.TEST.BBOX_AUG.ENABLED = False  # tests (in training, too) run several passes over each image
_C.TEST.BBOX_AUG.H_FLIP = False  # adds a pass over the mirrored image
_C.TEST.BBOX_AUG.SCALES = ()  # adds a pass for each of these short sides
_C.TEST.BBOX_AUG.MAX_SIZE = 4000  # long side of these passes; with VOTE, SCALES below 800 use
# INPUT.MAX_SIZE_TEST
_C.TEST.BBOX_AUG.SCALE_H_FLIP = False  # adds a mirrored pass for each of SCALES
_C.TEST.BBOX_AUG.VOTE = False  # False: one NMS over the candidates of all passes; True: NMS in each
# pass, then MERGE_TYPE over the boxes that remain
_C.TEST.BBOX_AUG.VOTE_TH = 0.66  # IoU of boxes that vote together
_C.TEST.BBOX_AUG.SCALE_RANGES = ()  # with VOTE, (low, high) for each of SCALES: boxes count there
# if low < sqrt(area) < high, in pixels of that scale; () = all boxes
_C.TEST.BBOX_AUG.MERGE_TYPE = "vote"  # with VOTE: "vote" (the mean of the boxes) | "soft-vote"
# (keeps also the voters, with lower scores, if these are high enough) | "nms"


def default_config() -> CN:
    """Returns a copy of the defaults."""
    return _C.clone()
