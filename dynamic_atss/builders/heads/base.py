"""The base class of heads. A head is one object that makes all parts which belong to it.

To write a head, subclass `Head` or one of the published heads in a file anywhere, and name it:
`MODEL.HEAD.NAME my_head.py:MyHead`. `MODEL.HEAD.ARGS` are its keyword arguments.

Rules and losses are imported where a criterion is made, so that a prediction does not import them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import isclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.builders.heads.fit import ask
from dynamic_atss.builders.outside import construct, find, require_call
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner
    from dynamic_atss.modeling.class_loss import ClassLoss
    from dynamic_atss.modeling.criterion import DenseCriterion

BOX_LOSS_FITS = (
    "a box loss is called with (raw, decoded, targets, weight, priors) and returns a dict, "
    "{name: loss}"
)


class HeadModules(NamedTuple):
    """The parts of a head that turn feature maps into detections."""

    network: nn.Module
    priors: AnchorGenerator
    coder: Coder
    postprocess: PostProcess


class Head(ABC):
    """A head: its section of the configuration, rule, priors, box convention and parts.

    section: of MODEL, with its keys (thresholds, loss weights, NUM_CLASSES and more)
    rule: the rule that learns where MODEL.ASSIGNER.NAME is ""
    boxes: what x2 and y2 of its boxes are
    rule_key: the key of the section that may put another in its place, if there is one
    """

    section: ClassVar[str] = "ATSS"
    rule: ClassVar[str] = "atss"
    boxes: ClassVar[BoxConvention] = BoxConvention.LEGACY
    rule_key: ClassVar[str] = ""

    def __init__(self, cfg: CfgNode) -> None:
        """cfg: the whole configuration. A subclass may take MODEL.HEAD.ARGS as keywords."""
        self.own = cfg.MODEL[self.section]
        self.model = cfg.MODEL
        self.detections_per_image = cfg.TEST.DETECTIONS_PER_IMG
        self.nms = cfg.TEST.NMS and self.own.NMS_TH > 0  # NMS_TH 0 is none, as released
        self.score_voting = cfg.TEST.SCORE_VOTING

    @abstractmethod
    def priors(self) -> AnchorGenerator:
        """Where the priors of each level lie."""

    @abstractmethod
    def network(self, channels: int, classes: int) -> nn.Module:
        """Feature maps of `channels` -> `HeadOutput` for `classes` classes."""

    @abstractmethod
    def coder(self) -> Coder:
        """From what the network's box branch gives to boxes."""

    def default_rule(self) -> str:
        """The rule that the section's keys mean."""
        return self.rule

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        """What the section's keys say of a rule: its keyword arguments."""
        return {}

    def wrapped(self, rule: Assigner) -> Assigner:
        """`rule` within what MODEL.ASSIGNER.AT_LEAST_ONE and IGNORE_REGIONS put around it.

        The rule that `criterion` is given is wrapped already; call this for each further rule that
        the head makes itself, as for its branches.
        """
        from dynamic_atss.assigners.at_least_one import AtLeastOne
        from dynamic_atss.assigners.ignore_regions import IgnoreRegions

        rule = AtLeastOne(rule) if self.model.ASSIGNER.AT_LEAST_ONE else rule
        return IgnoreRegions(rule) if self.model.ASSIGNER.IGNORE_REGIONS else rule

    def criterion_type(self) -> type[DenseCriterion]:
        """The class of the criterion."""
        from dynamic_atss.modeling.criterion import Criterion

        return Criterion

    def criterion(self, assigner: Assigner, coder: Coder) -> nn.Module:
        """From the network's output to losses."""
        from dynamic_atss.engine import distributed

        arguments = self.criterion_arguments(assigner)
        if self.model.BOX_LOSS:
            arguments["box_loss"] = named_box_loss(self.model.BOX_LOSS)
        return self.criterion_type()(
            assigner,
            coder,
            distributed.average,
            class_loss=self.class_loss(assigner),
            **arguments,
        )

    def criterion_arguments(self, assigner: Assigner) -> dict[str, Any]:
        """The keyword arguments of `criterion_type` that are not its defaults."""
        return {"divide_by_labels": self.divides_by_labels()}

    def postprocess(self, coder: Coder) -> PostProcess:
        """From the network's output to detections."""
        return PostProcess(
            coder,
            score_threshold=self.own.INFERENCE_TH,
            nms_threshold=self.own.NMS_TH,
            pre_nms_top_n=self.own.PRE_NMS_TOP_N,
            detections_per_image=self.detections_per_image,
            convention=self.boxes,
            score_voting=self.score_voting,
            **{"nms": self.nms} | self.postprocess_arguments(),
        )

    def postprocess_arguments(self) -> dict[str, Any]:
        """What the head's `PostProcess` has otherwise than by default."""
        return {}

    def check(self) -> None:
        """Refuses values of the section that do not fit each other.

        Raises:
            UserError: names the keys.
        """
        own, section = self.own, f"MODEL.{self.section}"
        if 0 < own.LOSS_GAMMA < 1:  # its gradient is infinite where the loss is 0
            raise UserError(f"{section}.LOSS_GAMMA {own.LOSS_GAMMA}: 0, or at least 1, is needed")

    def build(self, channels: int, classes: int) -> HeadModules:
        """Makes all parts but the criterion, for feature maps of `channels` and `classes` classes.

        The criterion is made with the same coder, which may have parameters that train.

        Raises:
            UserError: a method takes other arguments, fails, or returns an object that does not
            fit.
        """
        coder = ask(self, "coder")
        network = ask(self, "network", channels, classes)
        return HeadModules(network, ask(self, "priors"), coder, ask(self, "postprocess", coder))

    def class_loss(self, assigner: Assigner) -> ClassLoss:
        """MODEL.CLASS_LOSS, or what the labels of the rule ask for."""
        from dynamic_atss.modeling.class_loss import default_class_loss

        kind = self.model.CLASS_LOSS
        return default_class_loss(assigner, kind, self.own.LOSS_ALPHA, self.own.LOSS_GAMMA)

    def divides_by_labels(self, own: str = "positives") -> bool:
        """MODEL.CLASS_LOSS_DIVISOR, or the head's `own`: whether it is the sum of the labels."""
        return (self.model.CLASS_LOSS_DIVISOR or own) == "labels"

    def tower_arguments(self) -> dict[str, Any]:
        """What the sections of all heads say alike of `DenseHead`."""
        return {
            "num_convs": self.own.NUM_CONVS,
            "deformable_last": self.own.get("USE_DCN_IN_TOWER", False),
            "prior_prob": self.own.PRIOR_PROB,
        }


class AnchorHead(Head):
    """A head with anchors, whose section has their sizes and the thresholds of max-IoU."""

    def priors(self) -> AnchorGenerator:
        own = self.own
        return AnchorGenerator(
            own.ANCHOR_STRIDES,
            own.ANCHOR_SIZES,
            own.ASPECT_RATIOS,
            own.OCTAVE,
            own.SCALES_PER_OCTAVE,
        )

    def thresholds(self) -> dict[str, Any]:
        """Arguments of max-IoU."""
        return {"positive": self.own.FG_IOU_THRESHOLD, "negative": self.own.BG_IOU_THRESHOLD}

    def check(self) -> None:
        super().check()
        own = self.own
        if own.BG_IOU_THRESHOLD > own.FG_IOU_THRESHOLD:
            raise UserError(
                f"MODEL.{self.section}.BG_IOU_THRESHOLD {own.BG_IOU_THRESHOLD}: at most "
                f"FG_IOU_THRESHOLD {own.FG_IOU_THRESHOLD} is needed"
            )


def named_box_loss(name: str) -> Any:
    """The term that MODEL.BOX_LOSS names; a class is made without arguments.

    Raises:
        UserError: there is no such term, or it is not called like one.
    """
    from dynamic_atss.modeling.box_terms import BOX_LOSSES

    key = "MODEL.BOX_LOSS"
    found = find(key, name, BOX_LOSSES, functions=True)
    require_call(key, name, found, 5, BOX_LOSS_FITS)
    return construct(key, name, found) if isclass(found) else found
