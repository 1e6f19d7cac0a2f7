"""Lists the label assignment rules by name. A new rule is a file in `rules` and a line below."""

from dynamic_atss.assigners.base import Assigner
from dynamic_atss.assigners.rules.atss import ATSS
from dynamic_atss.assigners.rules.dsla import DSLA
from dynamic_atss.assigners.rules.dw import DW
from dynamic_atss.assigners.rules.dynamic_atss import DynamicATSS
from dynamic_atss.assigners.rules.dynamic_soft_label import DynamicSoftLabel
from dynamic_atss.assigners.rules.fcos import FCOS
from dynamic_atss.assigners.rules.max_iou import MaxIoU
from dynamic_atss.assigners.rules.o2f import O2F
from dynamic_atss.assigners.rules.paa import PAA
from dynamic_atss.assigners.rules.poto import POTO
from dynamic_atss.assigners.rules.rfla import RFLA
from dynamic_atss.assigners.rules.simd import SimD
from dynamic_atss.assigners.rules.simota import SimOTA
from dynamic_atss.assigners.rules.small_target_aligned import SmallTargetAligned
from dynamic_atss.assigners.rules.task_aligned import TaskAligned
from dynamic_atss.assigners.rules.topk import TopK

ASSIGNERS: dict[str, type[Assigner]] = {
    "dynamic_atss": DynamicATSS,
    "atss": ATSS,
    "fcos": FCOS,
    "dsla": DSLA,
    "max_iou": MaxIoU,
    "topk": TopK,
    "task_aligned": TaskAligned,
    "simota": SimOTA,
    "paa": PAA,
    "dynamic_soft_label": DynamicSoftLabel,
    "poto": POTO,
    "small_target_aligned": SmallTargetAligned,
    "dw": DW,
    "o2f": O2F,
    "rfla": RFLA,
    "simd": SimD,
}
