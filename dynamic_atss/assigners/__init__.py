"""Label assignment rules by name. A new rule is one file here and one line below."""

from dynamic_atss.assigners.atss import ATSS
from dynamic_atss.assigners.base import Assigner
from dynamic_atss.assigners.dsla import DSLA
from dynamic_atss.assigners.dynamic_atss import DynamicATSS
from dynamic_atss.assigners.fcos import FCOS
from dynamic_atss.assigners.max_iou import MaxIoU
from dynamic_atss.assigners.paa import PAA
from dynamic_atss.assigners.simota import SimOTA
from dynamic_atss.assigners.task_aligned import TaskAligned
from dynamic_atss.assigners.topk import TopK

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
}
