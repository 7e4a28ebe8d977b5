"""Muon against the one that comes with PyTorch, which takes matrices only, and against Adam for all else."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from engine.optimizers import AdamFromGrey, Muon, orthogonal
from esrgan import RRDBNet, SRVGGNetCompact
from srcnn import GREY, KERNELS, SRCNN


@pytest.mark.parametrize("shape", [(3, 16, 288), (2, 32, 32), (1, 60, 20)])
def test_orthogonal_keeps_the_directions_and_evens_their_lengths(shape):
    # Singular values from 1 down to 0.01, as unequal as a gradient's.
    left, right = (torch.linalg.qr(torch.randn(shape[0], side, min(shape[1:]))).Q for side in shape[1:])
    matrices = left @ torch.diag(torch.logspace(0, -2, min(shape[1:]))) @ right.mT
    lengths = left.mT @ orthogonal(7 * matrices) @ right
    torch.testing.assert_close(lengths, torch.diag_embed(lengths.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)
    assert lengths.diagonal(dim1=1, dim2=2).min() > 0.6 and lengths.max() < 1.3
    assert not orthogonal(torch.zeros(shape)).any()


@pytest.mark.parametrize("channels_last", [False, True])
def test_muon_is_pytorchs_for_hidden_convolutions_and_adam_for_all_else(channels_last):
    network = SRVGGNetCompact(2, 8, 3)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    hidden = [network.get_parameter(name) for name in ("body.2.weight", "body.4.weight", "body.6.weight")]
    others = [parameter for parameter in network.parameters() if not any(parameter is weight for weight in hidden)]
    matrices, copies = ([nn.Parameter(each.detach().clone()) for each in each_kind] for each_kind in (hidden, others))
    matrices = [nn.Parameter(matrix.flatten(1)) for matrix in matrices]
    optimizer = Muon(network, lr=1e-2, betas=(0.9, 0.99))
    expected = [
        torch.optim.Muon(matrices, lr=1e-2, weight_decay=0, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.Adam(copies, lr=1e-2, betas=(0.9, 0.99)),
    ]
    start = [weight.detach().clone() for weight in hidden]
    for _ in range(3):
        for mine, theirs in zip([*hidden, *others], [*matrices, *copies], strict=True):
            mine.grad = torch.randn_like(mine)
            theirs.grad = mine.grad.reshape(theirs.shape).clone()
        for each in (optimizer, *expected):
            each.step()
    for mine, theirs in zip(others, copies, strict=True):
        torch.testing.assert_close(mine, theirs)
    for mine, theirs, before in zip(hidden, matrices, start, strict=True):
        way, expected_way = (mine - before).flatten(1), theirs - before.flatten(1)
        assert (way - expected_way).norm() < 0.03 * expected_way.norm()  # theirs computes with bfloat16


def test_a_weight_without_gradient_stays_and_a_skipped_step_changes_nothing():
    network = RRDBNet(4, 8, 4, 1)
    optimizer, scaler = Muon(network), torch.amp.GradScaler("cpu")
    before = [parameter.clone() for parameter in network.parameters()]
    scaler.scale(network(torch.rand(1, 3, 8, 8)).mean() * float("inf")).backward()
    scaler.step(optimizer)
    assert all(map(torch.equal, network.parameters(), before))
    optimizer.zero_grad()
    network.conv_hr.requires_grad_(False)
    network(torch.rand(1, 3, 8, 8)).mean().backward()
    optimizer.step()
    changed = {name for (name, now), old in zip(network.named_parameters(), before, strict=True) if not now.equal(old)}
    assert {"conv_first.weight", "conv_up1.weight", "conv_last.bias"} < changed
    assert not changed & {"conv_hr.weight", "conv_hr.bias"}


def test_a_step_after_loading_is_the_step_without():
    steps = []
    for saved in (False, True):
        torch.manual_seed(0)
        network = RRDBNet(4, 8, 4, 1)
        optimizer = Muon(network, lr=1e-3)
        for number in range(3):
            network(torch.rand(1, 3, 8, 8)).mean().backward()
            if saved and number == 2:
                state, optimizer = optimizer.state_dict(), Muon(network, lr=1e-3)
                optimizer.load_state_dict(state)
            optimizer.step()
            optimizer.zero_grad()
        steps.append([parameter.detach().clone() for parameter in network.parameters()])
    assert all(map(torch.equal, *steps))


@pytest.mark.parametrize("kernels", KERNELS.values())
def test_adam_from_grey_is_adam_on_weights_and_answers_to_grey(kernels):
    network = SRCNN(kernels).double()
    optimizer = AdamFromGrey(network, lr=1e-2)
    weights = [layer.weight.detach().clone().requires_grad_() for layer in network.children()]
    answers, grey = [], torch.full((1, 1, 30, 30), GREY, dtype=torch.float64)
    for layer in network.children():
        answers.append(layer(grey)[0, :, 0, 0].detach().clone().requires_grad_())
        grey = layer(grey).relu()
    adam = torch.optim.Adam([*weights, *answers], lr=1e-2)

    def told_by_answers(x):
        grey = torch.tensor([GREY], dtype=torch.float64)
        for number, (weight, answer) in enumerate(zip(weights, answers, strict=True)):
            bias = answer - (weight.sum((2, 3)) * grey).sum(1)
            x, grey = F.conv2d(x.relu() if number else x, weight, bias), answer.relu()
        return x

    for _ in range(3):
        low, high = torch.rand(2, 1, 20, 20, dtype=torch.float64), torch.rand(2, 1, 1, 1, dtype=torch.float64)
        for restore, steps in ((network.forward_valid, optimizer), (told_by_answers, adam)):
            steps.zero_grad()
            F.mse_loss(restore(low), high.expand_as(restore(low))).backward()
            steps.step()
    torch.testing.assert_close(network.forward_valid(low), told_by_answers(low))
    assert all(torch.allclose(layer.weight, weight) for layer, weight in zip(network.children(), weights, strict=True))


def test_adam_from_grey_changes_nothing_when_the_scaler_skips_a_step():
    network = SRCNN((9, 1, 5))
    optimizer, scaler = AdamFromGrey(network, fused=True), torch.amp.GradScaler("cpu")
    before = [parameter.clone() for parameter in network.parameters()]
    scaler.scale(network(torch.rand(1, 1, 9, 9)).mean() * float("inf")).backward()
    scaler.step(optimizer)
    assert all(map(torch.equal, network.parameters(), before))
