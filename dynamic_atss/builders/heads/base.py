"""Defines the base class of heads. A head builds all its parts.

To write a head, subclass `Head` or a published head in any file, and name it:
`MODEL.HEAD.NAME my_head.py:MyHead`. `MODEL.HEAD.ARGS` are its keyword arguments.

Rules and losses are imported only to build a criterion, so a prediction does not import them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from inspect import isclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import nn
from yacs.config import CfgNode

from dynamic_atss.boxes import BoxConvention
from dynamic_atss.builders.heads.check_head import call_checked
from dynamic_atss.builders.user_code import construct, find, require_call
from dynamic_atss.errors import UserError
from dynamic_atss.modeling.coder import Coder
from dynamic_atss.modeling.postprocess import PostProcess
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.moved import renamed

if TYPE_CHECKING:
    from dynamic_atss.assigners import Assigner
    from dynamic_atss.modeling.class_loss import ClassLoss
    from dynamic_atss.modeling.criterion import DenseCriterion

BOX_LOSS_REQUIREMENT = (
    "a box loss is called with (raw, decoded, targets, weight, priors) and returns a dict, "
    "{name: loss}"
)


class HeadModules(NamedTuple):
    """Holds the parts of a head that turn feature maps into detections."""

    network: nn.Module
    priors: AnchorGenerator
    coder: Coder
    postprocess: PostProcess


class Head(ABC):
    """Builds the network, priors, coder, criterion and post-processing of a head.

    Attributes:
        section: name of the head's section of MODEL, with thresholds, loss weights, NUM_CLASSES and
            more.
        rule: the label assignment rule if MODEL.ASSIGNER.NAME is "".
        boxes: convention of the sides of the head's boxes.
        rule_key: key of the section that chooses another default rule; "" for none.
        settings: the section of the configuration.
    """

    section: ClassVar[str] = "ATSS"
    rule: ClassVar[str] = "atss"
    boxes: ClassVar[BoxConvention] = BoxConvention.LEGACY
    rule_key: ClassVar[str] = ""

    own = renamed("own", "settings")

    def __init__(self, cfg: CfgNode) -> None:
        """Reads the head's section.

        Args:
            cfg: the complete configuration. A subclass may take MODEL.HEAD.ARGS as keywords.
        """
        self.settings = cfg.MODEL[self.section]
        self.model = cfg.MODEL
        self.detections_per_image = cfg.TEST.DETECTIONS_PER_IMG
        self.nms = cfg.TEST.NMS and self.settings.NMS_TH > 0  # 0 turns NMS off in the release
        self.score_voting = cfg.TEST.SCORE_VOTING

    @abstractmethod
    def priors(self) -> AnchorGenerator:
        """Builds the generator of the priors of all levels."""

    @abstractmethod
    def network(self, channels: int, classes: int) -> nn.Module:
        """Builds the module that makes a `HeadOutput` of `classes` from maps of `channels`."""

    @abstractmethod
    def coder(self) -> Coder:
        """Builds the coder between boxes and the output of the box branch."""

    def default_rule(self) -> str:
        """Returns the name of the rule that the section chooses."""
        return self.rule

    def rule_arguments(self, rule: str) -> dict[str, Any]:
        """Returns the keyword arguments of a rule that the section sets."""
        return {}

    def wrapped(self, rule: Assigner) -> Assigner:
        """Wraps a rule as MODEL.ASSIGNER.AT_LEAST_ONE and IGNORE_REGIONS require.

        The rule that `criterion` gets is already wrapped. Wrap every other rule that the head
        builds, such as that of a second branch.
        """
        from dynamic_atss.assigners.at_least_one import AtLeastOne
        from dynamic_atss.assigners.ignore_regions import IgnoreRegions

        rule = AtLeastOne(rule) if self.model.ASSIGNER.AT_LEAST_ONE else rule
        return IgnoreRegions(rule) if self.model.ASSIGNER.IGNORE_REGIONS else rule

    def criterion_type(self) -> type[DenseCriterion]:
        """Returns the class of the criterion."""
        from dynamic_atss.modeling.criterion import Criterion

        return Criterion

    def criterion(self, assigner: Assigner, coder: Coder) -> nn.Module:
        """Builds the module that computes losses from the output of the network."""
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
        """Returns the keyword arguments of `criterion_type` that differ from its defaults."""
        return {"divide_by_labels": self.divides_by_labels()}

    def postprocess(self, coder: Coder) -> PostProcess:
        """Builds the step that makes detections from the output of the network."""
        return PostProcess(
            coder,
            score_threshold=self.settings.INFERENCE_TH,
            nms_threshold=self.settings.NMS_TH,
            pre_nms_top_n=self.settings.PRE_NMS_TOP_N,
            detections_per_image=self.detections_per_image,
            convention=self.boxes,
            score_voting=self.score_voting,
            **{"nms": self.nms} | self.postprocess_arguments(),
        )

    def postprocess_arguments(self) -> dict[str, Any]:
        """Returns the keyword arguments of `PostProcess` that differ from its defaults."""
        return {}

    def check(self) -> None:
        """Checks the values of the section together.

        Raises:
            UserError: values contradict each other; states their keys.
        """
        gamma = self.settings.LOSS_GAMMA
        if 0 < gamma < 1:  # the gradient would be infinite where the loss is 0
            raise UserError(f"MODEL.{self.section}.LOSS_GAMMA {gamma}: give 0, or at least 1")

    def build(self, channels: int, classes: int) -> HeadModules:
        """Builds all parts except the criterion, for feature maps of `channels`.

        Build the criterion with the same coder, which may have trainable parameters.

        Raises:
            UserError: a method takes other arguments, fails, or returns a wrong object.
        """
        coder = call_checked(self, "coder")
        network = call_checked(self, "network", channels, classes)
        priors = call_checked(self, "priors")
        return HeadModules(network, priors, coder, call_checked(self, "postprocess", coder))

    def class_loss(self, assigner: Assigner) -> ClassLoss:
        """Builds the loss of MODEL.CLASS_LOSS, or the loss for the kind of labels of the rule."""
        from dynamic_atss.modeling.class_loss import default_class_loss

        kind = self.model.CLASS_LOSS
        return default_class_loss(
            assigner, kind, self.settings.LOSS_ALPHA, self.settings.LOSS_GAMMA
        )

    def divides_by_labels(self, default: str = "positives") -> bool:
        """Returns True if the sum of the labels divides the class loss.

        Args:
            default: the divisor if MODEL.CLASS_LOSS_DIVISOR is "".
        """
        return (self.model.CLASS_LOSS_DIVISOR or default) == "labels"

    def tower_arguments(self) -> dict[str, Any]:
        """Returns the arguments of `DenseHead` that every section sets."""
        return {
            "num_convs": self.settings.NUM_CONVS,
            "deformable_last": self.settings.get("USE_DCN_IN_TOWER", False),
            "prior_prob": self.settings.PRIOR_PROB,
        }


class AnchorHead(Head):
    """Defines a head with anchors.

    Its section has the sizes of anchors and the thresholds of max-IoU.
    """

    def priors(self) -> AnchorGenerator:
        settings = self.settings
        return AnchorGenerator(
            settings.ANCHOR_STRIDES,
            settings.ANCHOR_SIZES,
            settings.ASPECT_RATIOS,
            settings.OCTAVE,
            settings.SCALES_PER_OCTAVE,
        )

    def thresholds(self) -> dict[str, Any]:
        """Returns the thresholds as keyword arguments of the rule max_iou."""
        return {
            "positive": self.settings.FG_IOU_THRESHOLD,
            "negative": self.settings.BG_IOU_THRESHOLD,
        }

    def check(self) -> None:
        super().check()
        settings = self.settings
        if settings.BG_IOU_THRESHOLD > settings.FG_IOU_THRESHOLD:
            raise UserError(
                f"MODEL.{self.section}.BG_IOU_THRESHOLD {settings.BG_IOU_THRESHOLD}: at most "
                f"FG_IOU_THRESHOLD {settings.FG_IOU_THRESHOLD} is needed"
            )


def named_box_loss(name: str) -> Any:
    """Finds the box loss that MODEL.BOX_LOSS names. A class is called without arguments to make it.

    Raises:
        UserError: the name is unknown, or the object cannot be called as a box loss.
    """
    from dynamic_atss.modeling.box_terms import BOX_LOSSES

    key = "MODEL.BOX_LOSS"
    found = find(key, name, BOX_LOSSES, functions=True)
    require_call(key, name, found, 5, BOX_LOSS_REQUIREMENT)
    return construct(key, name, found) if isclass(found) else found
