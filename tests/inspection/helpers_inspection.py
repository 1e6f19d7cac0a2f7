"""Makes crowded pictures, and records a rule on them."""

import torch

from dynamic_atss.assigners import recording
from dynamic_atss.assigners.call_rule import call_rule
from dynamic_atss.assigners.per_image import PerImage
from dynamic_atss.assigners.recording import note
from dynamic_atss.boxes import iou, sides
from dynamic_atss.data.catalog import open_dataset
from dynamic_atss.inspection.outcomes import outcomes
from dynamic_atss.inspection.reasons import Reasons
from dynamic_atss.inspection.recorder import Record
from dynamic_atss.modeling.priors import AnchorGenerator
from dynamic_atss.types import BACKGROUND, GroundTruth, Predictions

CLASSES = 3
STRIDES = (8, 16, 32, 64, 128)


class Dense(PerImage):
    """Applies ATSS's threshold over all priors, for one image."""

    def assign(self, priors, boxes, classes, predicted_boxes, logits):
        overlap = iou(priors.boxes[:, None], boxes)
        within = sides(priors.centers[:, None], boxes).amin(-1) > 0
        threshold = overlap.mean(0) + overlap.std(0)
        self.tell(overlap, threshold, within)
        positive = (overlap >= threshold) & within
        best, index = overlap.where(positive, -1).max(1)
        return index.where(best >= 0, BACKGROUND), best.clamp(min=0)

    def tell(self, overlap, threshold, within):
        """Notes nothing."""


class DenseNoted(Dense):
    def tell(self, overlap, threshold, within):
        note(score=overlap, threshold=threshold, inside=within)


def priors_for(height, width):
    sizes = tuple((-(-height // s), -(-width // s)) for s in STRIDES)
    generator = AnchorGenerator(STRIDES, [8.0 * s for s in STRIDES])
    return generator(sizes, torch.device("cpu"))


def crowd(seed, count=30, height=160, width=224):
    """Gives overlapping and duplicate boxes, and predictions near them."""
    random = torch.Generator().manual_seed(seed)
    center = torch.rand(count, 2, generator=random) * torch.tensor([width, height])
    half = 3 * 20 ** torch.rand(count, 2, generator=random)
    boxes = torch.cat((center - half, center + half), dim=1)
    boxes[1] = boxes[0]
    return scene(boxes, priors_for(height, width), seed)


def nuclei(shared):
    """Gives the picture with the most nuclei."""
    folder = shared / "data/nuclei"
    name = f"coco:{folder / 'annotations/train.json'}:{folder / 'images'}"
    data = open_dataset(name, root=shared, training=False)
    place = max(range(len(data)), key=lambda i: len(data.ground_truth(i)))
    height, width = data.sizes[place].tolist()
    return scene(data.ground_truth(place).boxes, priors_for(height, width), 0)


def scene(boxes, priors, seed):
    """Gives (priors, gt, predictions) of one image."""
    random = torch.Generator().manual_seed(seed)
    classes = torch.randint(0, CLASSES, (len(boxes),), generator=random)
    gt = GroundTruth(boxes, classes, torch.zeros(len(boxes), dtype=torch.int64))
    near = boxes[torch.randint(0, len(boxes), (len(priors),), generator=random)]
    is_near = torch.rand(len(priors), 1, generator=random) < 0.3
    predicted = torch.where(is_near, near, priors.boxes)
    predicted = predicted + 2 * torch.randn(len(priors), 4, generator=random)
    predicted = torch.cat((predicted[:, :2], torch.maximum(predicted[:, :2], predicted[:, 2:])), 1)
    logits = torch.randn(1, len(priors), CLASSES, generator=random)
    return priors, gt, Predictions(predicted[None], logits, iteration=1)


def recorded(rule, priors, gt, predictions):
    """Gives the rule's answer with its steps."""
    record = Record()
    with recording.record_with(record, eager=True):
        call_rule(rule, priors, gt, predictions)
    (found,) = record.answers
    return found


def explained(rule, priors, gt, predictions):
    """Gives (the rule's answer, the outcomes of its pairs, their texts by number)."""
    found, reasons = recorded(rule, priors, gt, predictions), Reasons()
    return found, outcomes(found, reasons), reasons.texts
