"""Label assignment rules by name. A new rule is one file here and one line below."""

from dynamic_atss.assigners.atss import ATSS
from dynamic_atss.assigners.base import Assigner
from dynamic_atss.assigners.dynamic_atss import DynamicATSS

ASSIGNERS: dict[str, type[Assigner]] = {
    "dynamic_atss": DynamicATSS,
    "atss": ATSS,
}
