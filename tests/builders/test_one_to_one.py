"""MODEL.ONE_TO_ONE: a second branch of any head, by keys."""

import re

import pytest
import torch
from helpers_run import ROOT, TINY

from dynamic_atss.assigners.at_least_one import AtLeastOne
from dynamic_atss.builders import build_model, build_optimizer, build_test_model, check_config
from dynamic_atss.config.load import load_config
from dynamic_atss.errors import UserError
from dynamic_atss.export.module import TensorDetector
from dynamic_atss.modeling.dual import ONE_TO_MANY, ONE_TO_ONE
from dynamic_atss.types import Batch, GroundTruth
from dynamic_atss.weights import load_weights

HEADS = ("ATSS", "FCOS", "RETINANET", "DSLA")
PAIRS = [(head, rule) for head in HEADS for rule in ("poto", "task_aligned")]


@pytest.fixture
def config(tmp_path):
    def make(*words):
        (tmp_path / "tiny.yaml").write_text(TINY)
        body = f"MODEL.BACKBONE.CONV_BODY {ROOT}/examples/plain_body.py:PlainBody"
        body += " MODEL.BACKBONE.ARGS.width 8"
        cfg = load_config(tmp_path / "tiny.yaml", [*body.split(), *" ".join(words).split()])
        check_config(cfg)
        return cfg

    return make


def on(head, rule, *more):
    head_keys = f"MODEL.ATSS_ON False MODEL.{head}_ON True MODEL.{head}.NUM_CONVS 1"
    return head_keys, f"MODEL.ONE_TO_ONE.NAME {rule}" if rule else "", *more


def model_of(cfg):
    torch.manual_seed(0)
    return build_model(cfg, 3)


def batch():
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 64, 96), generator=generator).to(torch.uint8)
    boxes = torch.tensor([[4.0, 4, 40, 50], [30, 8, 60, 60], [10, 20, 90, 60]])
    gt = GroundTruth(boxes, torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]))
    return Batch(images, torch.tensor([[64, 96]] * 2), gt, (0, 1), ((64, 96),) * 2)


@pytest.mark.parametrize(("head", "rule"), PAIRS)
def test_every_head_learns_both_and_its_features_from_one(config, head, rule):
    alone, dual = model_of(config(*on(head, ""))), model_of(config(*on(head, rule)))
    losses, expected = (model.train()(batch()).losses for model in (dual, alone))
    names = [f"{branch}/{name}" for branch in (ONE_TO_MANY, ONE_TO_ONE) for name in expected]
    kinds = {name.rpartition("/")[0] for name in losses}
    assert kinds == {ONE_TO_MANY, ONE_TO_ONE} and len(losses) == len(names)
    for name, value in expected.items():  # the same seed gives the same first branch
        torch.testing.assert_close(losses[f"{ONE_TO_MANY}/{name}"], value, rtol=1e-5, atol=1e-6)
    for terms in (losses, expected):
        sum(terms.values()).backward()
    for (name, p), q in zip(
        dual.backbone.named_parameters(), alone.backbone.parameters(), strict=True
    ):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-6, msg=name)
    learning = dual.head.one_to_one.cls_logits.weight.grad
    assert learning.isfinite().all() and learning.any()


@pytest.mark.parametrize("head", HEADS)
def test_no_box_is_found_twice_by_training_and_none_is_suppressed(config, head):
    """Each box has one prior. Two equal predictions both stay, as there is no NMS."""
    model = model_of(config(*on(head, "poto", f"MODEL.{head}.INFERENCE_TH 0.0")))
    metrics = model.train()(batch()).metrics
    assert metrics[f"{ONE_TO_ONE}/positives"] == 1.5 <= metrics[f"{ONE_TO_MANY}/positives"]
    for parameter in model.head.one_to_one.bbox_pred.parameters():
        torch.nn.init.constant_(parameter, 2.0)
    found = model.eval()(batch())
    assert [len(x) for x in found] == [100, 100]
    output = model.head(model.backbone(model.normalize(batch().images, batch().sizes)))
    assert list(output) == [ONE_TO_ONE]
    scores = output[ONE_TO_ONE].logits.sigmoid()
    if output[ONE_TO_ONE].quality is not None:
        scores = (scores * output[ONE_TO_ONE].quality.sigmoid()[..., None]).sqrt()
    for detections, image in zip(found, scores, strict=True):
        best = image.flatten().topk(100).values
        torch.testing.assert_close(detections.scores, best, rtol=1e-4, atol=1e-6)


def test_the_other_branch_predicts_as_a_head_of_its_own(config):
    other = on("ATSS", "poto", "MODEL.ONE_TO_ONE.PREDICTS False")
    alone, dual = model_of(config(*on("ATSS", ""))), model_of(config(*other))
    for model in (alone, dual):
        torch.nn.init.zeros_(model.get_parameter("head.cls_logits.bias"))
        torch.nn.init.normal_(model.head.get_parameter("cls_logits.weight"), std=0.3)
    dual.load_state_dict(alone.state_dict(), strict=False)
    assert dual.postprocess.nms and dual.postprocess.branch == ONE_TO_MANY
    for a, b in zip(alone.eval()(batch()), dual.eval()(batch()), strict=True):
        assert len(a) and torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)


def test_a_head_of_ones_own_and_what_stands_around_rules(config):
    head_keys = f"MODEL.HEAD.NAME {ROOT}/examples/shared_tower_head.py:SharedTowerHead"
    cfg = config(head_keys, "MODEL.ONE_TO_ONE.NAME poto MODEL.ASSIGNER.AT_LEAST_ONE True")
    model = model_of(cfg)
    assert model.train()(batch()).losses.keys() > {f"{ONE_TO_ONE}/loss_cls"}
    rules = [criterion.assigner for criterion in model.criterion.criteria.values()]
    assert all(isinstance(rule, AtLeastOne) for rule in rules)
    assert model.criterion.criteria[ONE_TO_ONE].assigner.rule.exact


def test_the_rule_has_one_prior_for_a_box(config):
    def rule(*words):
        return model_of(config(*words)).criterion.criteria[ONE_TO_ONE].assigner

    assert rule(*on("ATSS", "task_aligned")).topk == 1 == rule(*on("ATSS", "topk")).topk
    assert rule(*on("ATSS", "task_aligned")).candidates == "box"
    assert rule(*on("FCOS", "small_target_aligned")).per_box == 1
    assert rule(*on("ATSS", "task_aligned", "MODEL.ONE_TO_ONE.ARGS.topk 2")).topk == 2
    assert not rule(*on("ATSS", "poto", "MODEL.ONE_TO_ONE.ARGS.exact False")).exact


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (on("ATSS", "atss"), r"NAME 'atss': assigns several priors to a box.* choose one of poto"),
        (on("ATSS", "pot"), r"MODEL.ONE_TO_ONE.NAME 'pot'.*nearest is 'poto'"),
        (
            on("ATSS", "poto", "MODEL.ONE_TO_ONE.ARGS.alfa 1"),
            r"MODEL.ONE_TO_ONE.ARGS.alfa: poto has no such argument; the nearest is 'alpha'",
        ),
    ],
)
def test_one_line_for_what_is_wrong(config, words, message):
    with pytest.raises(UserError, match=message):
        config(*words)


BRANCHES = """
from dynamic_atss.builders.heads.atss import ATSSHead

class Named(ATSSHead):
    def postprocess_arguments(self):
        return {"branch": "mine"}
"""


def test_a_head_that_has_branches(config, tmp_path):
    (tmp_path / "named.py").write_text(BRANCHES)
    cfg = config(
        f"MODEL.ATSS_ON False MODEL.HEAD.NAME {tmp_path}/named.py:Named",
        "MODEL.ONE_TO_ONE.NAME poto",
    )
    with pytest.raises(
        UserError, match=r"makes two branches of a head, but this head already has branches"
    ):
        model_of(cfg)


def test_no_nms_with_one_branch(config):
    cfg = config("MODEL.ASSIGNER.NAME poto TEST.NMS False MODEL.ATSS.INFERENCE_TH 0.0")
    assert [len(x) for x in model_of(cfg).eval()(batch())] == [100, 100]


def test_the_second_branch_has_its_learning_rate(config):
    cfg = config(*on("ATSS", "poto", "SOLVER.BASE_LR 0.1 MODEL.ONE_TO_ONE.LR_FACTOR 3.0"))
    model = model_of(cfg)
    rates = {id(p): g["lr"] for g in build_optimizer(cfg, model).param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        factor = 3 if name.startswith("head.one_to_one.") else 1
        bias = cfg.SOLVER.BIAS_LR_FACTOR if "bias" in name else 1
        assert rates[id(parameter)] == pytest.approx(0.1 * factor * bias), name


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("MODEL.ONE_TO_ONE.NAME poto", "MODEL.ONE_TO_ONE predicts without NMS.* joined by nms$"),
        ("TEST.NMS False TEST.BBOX_AUG.VOTE True", "TEST.NMS False.* joined by vote$"),
        ("TEST.NMS False MODEL.FCOS.NMS_TH 0", r"joined by nothing \(MODEL.FCOS.NMS_TH 0.*to 0.6"),
        ("MODEL.ONE_TO_ONE.NAME poto MODEL.ONE_TO_ONE.PREDICTS False", ""),
        ("", ""),
    ],
)
def test_passes_are_joined_also_without_nms(config, caplog, words, told):
    cfg = config("TEST.BBOX_AUG.ENABLED True TEST.BBOX_AUG.H_FLIP True", words)
    build_test_model(cfg, torch.nn.Identity())
    lines = [record.getMessage() for record in caplog.records]
    assert [bool(re.search(told, line)) for line in lines] == [True] * bool(told)


@pytest.mark.slow
def test_what_is_exported_has_one_branch(config):
    from dynamic_atss.export.tracing import traced

    model = model_of(config(*on("ATSS", "poto"))).eval().requires_grad_(False)
    program = traced(TensorDetector(model), torch.device("cpu"))
    kinds = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any("nms" in kind for kind in kinds) and "aten.topk.default" in kinds
    read = {
        spec.target
        for spec in program.graph_signature.input_specs
        if spec.target and "head." in spec.target
    }
    used = {n.name for n in program.graph.nodes if n.op == "placeholder" and n.users}
    of_many = [
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.target in read and "one_to_one" not in spec.target
    ]
    assert not used.intersection(of_many)


def test_weights_of_one_branch_begin_both(config, tmp_path):
    """The weights of a checkpoint with one branch fill both branches.

    With other classes, the class logits of both branches keep their initial weights.
    """
    alone = model_of(config(*on("ATSS", "")))
    torch.save({"model": alone.state_dict()}, tmp_path / "alone.pth")
    dual = model_of(config(*on("ATSS", "poto")))
    report = load_weights(dual, tmp_path / "alone.pth")
    assert any("it fills both branches of MODEL.ONE_TO_ONE" in note for note in report.notes)
    output = dual.train().head(dual.backbone(dual.normalize(batch().images, batch().sizes)))
    assert torch.equal(output[ONE_TO_MANY].logits, output[ONE_TO_ONE].logits)
    torch.save({"model": dual.state_dict()}, tmp_path / "dual.pth")
    five = build_model(config(*on("ATSS", "poto")), 5)
    report = load_weights(five, tmp_path / "dual.pth")
    logits = {"head.cls_logits", "head.one_to_one.cls_logits"}
    assert {name.rpartition(".")[0] for name in report.initial} == logits
    with pytest.raises(UserError, match=r"head.one_to_one.* has no place in the model"):
        load_weights(alone, tmp_path / "dual.pth")
