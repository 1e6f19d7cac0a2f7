"""Tests the network part by part: the order, and effects of the second forward pass."""

import pytest
import torch
from torch import nn

from dynamic_atss.modeling.accumulate import in_parts
from dynamic_atss.modeling.head import HeadOutput, joined_outputs

X = torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0))


class Network(nn.Module):
    """A random network whose output depends on running statistics and the number of passes."""

    def __init__(self, dropout=0.5):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("passes", torch.ones(()))
        self.sizes: list[int] = []

    def forward(self, x):
        self.sizes.append(len(x))
        y = self.dropout(self.norm(self.conv(x))).relu()
        if self.passes is not None:
            y = y * self.passes.clone()
            self.passes += 1
        y = y.flatten(2).transpose(1, 2)
        return HeadOutput(y[..., :2], y, y[..., 2], ((4, 4),), {"more": y * 2})


def made(**options):
    torch.manual_seed(0)
    return Network(**options).train()


def loss(output):
    """A loss of the entire batch that is not a sum over images."""
    return output.logits.square().sum().sqrt() + output.quality.max() + output.extras["more"].mean()


def gradients(network):
    return [p.grad for p in network.parameters()]


def test_one_part_is_the_network_alone():
    network = made()
    output = in_parts(network, network, 1, X)
    loss(output).backward()
    assert network.sizes == [6]


def test_all_parts_but_the_last_run_a_second_time():
    network = made()
    output = in_parts(network, network, 3, X)
    assert network.sizes == [2, 2, 2]
    loss(output).backward()
    assert network.sizes == [2, 2, 2, 2, 2]


def test_gradient_random_numbers_and_buffers_are_those_of_one_run():
    """Compares with the same parts when all activations are kept."""
    network, kept = made(), made()
    torch.manual_seed(1)
    loss(in_parts(network, network, 3, X)).backward()
    after = torch.rand(1)
    torch.manual_seed(1)
    loss(joined_outputs([kept(x) for x in X.chunk(3)])).backward()
    assert torch.equal(after, torch.rand(1))
    torch.testing.assert_close(gradients(network), gradients(kept))
    assert list(dict(network.named_buffers())) == list(dict(kept.named_buffers()))
    for mine, other in zip(network.buffers(), kept.buffers(), strict=True):
        assert torch.equal(mine, other)
    assert network.passes == 4 and network.norm.num_batches_tracked == 3


def test_buffers_stay_the_same_tensors():
    """DistributedDataParallel and compiled networks hold references to them."""
    network = made()
    before = list(network.buffers())
    loss(in_parts(network, network, 2, X)).backward()
    assert all(a is b for a, b in zip(before, network.buffers(), strict=True))


@pytest.mark.parametrize(("parts", "sizes"), [(4, [2, 2, 2]), (5, [2, 2, 2]), (9, [1] * 6)])
def test_parts_that_do_not_divide_and_more_parts_than_images(parts, sizes):
    network, reference = made(dropout=0.0), made(dropout=0.0)
    network.norm, reference.norm = nn.Identity(), nn.Identity()
    network.passes = reference.passes = None
    output = in_parts(network, network, parts, X)
    assert network.sizes == sizes
    loss(output).backward()
    loss(reference(X)).backward()
    torch.testing.assert_close(gradients(network), gradients(reference))


def steps(network, copies, count=3):
    """Gives the gradients of several steps over other images, and the places of the buffers."""
    found, places = [], []
    network.register_forward_pre_hook(
        lambda *_: places.append(network.norm.running_mean.data_ptr())
    )
    for n in range(count):
        torch.manual_seed(n)
        network.zero_grad()
        loss(in_parts(network, network, 3, X + n, copies=copies)).backward()
        found.append([g.clone() for g in gradients(network)])
    return found, places


def test_copies_that_are_kept_give_the_same_steps_at_the_same_places():
    one, other = made(), made()
    expected, _ = steps(one, None)
    found, places = steps(other, [])
    for theirs, ours in zip(expected, found, strict=True):
        assert all(map(torch.equal, theirs, ours))
    for (name, x), (_, y) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(x, y), name
    first, *later = torch.tensor(places).view(3, 5).tolist()  # 3 passes, 2 again in each step
    assert later == [first] * 2 and len(set(first)) == 3
