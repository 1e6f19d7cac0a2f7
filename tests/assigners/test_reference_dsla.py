"""Compares labels and targets with the released DSLA."""

import pytest
import torch
from helpers_reference import DEVICES, assigned, read_arrays

from dynamic_atss.assigners.rules.dsla import DSLA
from dynamic_atss.boxes import sides
from dynamic_atss.modeling.priors import PointGenerator
from dynamic_atss.types import GroundTruth, Predictions

POINTS = PointGenerator((8, 16, 32, 64, 128), offset=0.0)
CASES = ["c0", "c2", "c4", "c6", "c10"]
SETTINGS = {
    "r50": DSLA(relaxation=0, core_zone=False),
    "r101": DSLA(radius=1.5),
    "full": DSLA(),
}


@pytest.fixture(scope="module")
def arrays(golden):
    return read_arrays(golden, "dsla_targets.npz")


@pytest.fixture(params=CASES)
def case(request, arrays):
    """Gives name, priors and ground truth of a case."""
    name = request.param
    sizes = tuple(map(tuple, arrays[f"{name}_featmap_sizes"].tolist()))
    boxes, classes = arrays[f"{name}_gt_bboxes"], arrays[f"{name}_gt_labels"].long()
    gt = GroundTruth(boxes, classes, torch.zeros_like(classes))
    return name, POINTS(sizes, torch.device("cpu")), gt


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("setting", SETTINGS)
def test_targets(arrays, case, setting, device):
    name, priors, gt = case

    def published(key):
        return arrays[f"{name}_{setting}_{key}"]

    assert torch.equal(priors.centers, arrays[f"{name}_points"])
    predictions = Predictions(priors.boxes[None], torch.zeros(1, len(priors), 80))
    result = assigned(SETTINGS[setting], priors, gt, predictions, device)
    positive = result.positive[0].nonzero().squeeze(1)
    assert torch.equal(positive, published("pos_idx").long())

    # If scores are equal, either box is right. Otherwise it must be the published one.
    found = result.gt_index[0, positive]
    pairs = published("ambiguous").tolist()
    either = torch.tensor(
        [[int(p), int(t)] in pairs for p, t in zip(positive, found, strict=True)], dtype=torch.bool
    )
    ambiguous = torch.isin(positive, published("ambiguous")[:, 0].long())
    same = found == published("pos_gt")
    assert (same | either).all()
    assert (same | ambiguous).all()

    targets = sides(priors.centers[positive], gt.boxes[found])
    if setting == "r101":
        targets = targets / priors.strides[positive, None]
    expected = published("pos_reg_targets")
    torch.testing.assert_close(targets[same], expected[same], rtol=1e-6, atol=1e-5)

    # The best class of a point, and the class of its box.
    scores = torch.zeros(len(priors), 80)
    point, label = published("cls_idx").long().unbind(1)
    scores[point, label] = published("cls_val")
    torch.testing.assert_close(result.quality[0], scores.amax(1), rtol=1e-6, atol=2e-7)
    at_label = scores[positive, gt.classes[found]]
    torch.testing.assert_close(at_label, scores.amax(1)[positive], rtol=1e-6, atol=2e-7)


def test_the_files_hold_what_is_tested(arrays):
    """Checks that the cases have enough positives, and that some are ambiguous."""
    positives = {s: sum(len(arrays[f"{c}_{s}_pos_idx"]) for c in CASES) for s in SETTINGS}
    assert positives == {"r50": 575, "r101": 243, "full": 835}
    assert sum(len(arrays[f"{c}_full_ambiguous"]) for c in CASES) == 7
