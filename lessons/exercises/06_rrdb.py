"""The checks of the exercises of lesson 6; the paragraphs of each docstring are the hints."""

from unittest.mock import patch

from comparing import compare, compare_gradients

import torch
import torch.nn.functional as F

from esrgan import RRDB, DenseBlock, RRDBNet


def random_block(features: int, growth: int) -> DenseBlock:
    """With weights large enough, and biases, to tell one mistake from another."""
    block = DenseBlock(features, growth)
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block.requires_grad_(False)


def check_06a(dense_inputs):
    """What has the second convolution at hand that the first had not?

    The first takes `features`. Each of the first four adds `growth` channels to what the next one sees.
    """
    for features, growth in ((64, 32), (32, 16), (10, 3)):
        mistakes = {
            "each sees only the output of the one before it. In a dense block it sees all outputs so far.": [
                features,
                *[growth] * 4,
            ],
            "the channels of x stay there for all five: they are never replaced.": [
                features,
                *[growth * number for number in range(1, 5)],
            ],
            "these are the channels that come out, not those that go in.": [*[growth] * 4, features],
        }
        expected = [features + growth * number for number in range(5)]
        compare(dense_inputs(features, growth), expected, f"{features} features, growth {growth}", mistakes)


def check_06b(dense_block):
    """Keep one tensor of everything that is known so far. Which of the five is treated otherwise than the rest?

    Keep a tensor `known`, at first x. Four times: convolve it, apply F.leaky_relu with slope 0.2, and concatenate
    along dimension 1 behind what is known.

    Then x + beta · fifth(known), without an activation.
    """
    torch.manual_seed(2)
    block = random_block(6, 3)
    x = torch.randn(2, 6, 9, 8)
    convolutions = list(block.children())

    def variant(beta=0.2, slope=0.2, last=False, front=False, shortcut=True, again=False):
        known = x
        for convolution in convolutions[:4]:
            new = F.leaky_relu(convolution(known), slope)
            known = F.leaky_relu(known, slope) if again else known
            known = torch.cat((new, known) if front else (known, new), dim=1)
        out = convolutions[4](known)
        return (x if shortcut else 0) + beta * (F.leaky_relu(out, 0.2) if last else out)

    mistakes = {
        "the residual scaling is missing: only beta times the fifth convolution is added.": variant(beta=1.0),
        "there is an activation after the fifth convolution. It must be able to give any value.": variant(last=True),
        "the slope below zero is 0.01, PyTorch's usual one. ESRGAN's is 0.2.": variant(slope=0.01),
        "this is a plain ReLU. ESRGAN's leaky one has slope 0.2 below zero.": variant(slope=0.0),
        "the activation between the convolutions is missing.": variant(slope=1.0),
        "new channels are put in front. They belong behind what is known: published weights expect that.": variant(
            front=True
        ),
        "the shortcut is missing: x is not added.": variant(shortcut=False),
        "the activation goes over everything known once more. Apply it to what is new.": variant(again=True),
        "the residual scaling is on the wrong side: x must stay whole.": 0.2 * x + variant(1.0, shortcut=False),
        "x is multiplied by 1 − beta. x must stay whole.": variant() - 0.2 * x,
        "x is scaled as well, with the rest. x must stay whole.": 0.2 * variant(1.0),
    }
    compare(dense_block(x, convolutions, 0.2), block(x), "A block with 6 features and growth 3", mistakes, 1e-4)
    written_in = {
        "beta is written into it: use the one that is given.": variant(0.2),
        "the slope below zero is beta. It stays 0.2; beta scales the residual.": variant(0.35, slope=0.35),
    }
    compare(dense_block(x, convolutions, 0.35), variant(0.35), "The same block with beta = 0.35", written_in, 1e-4)
    network = RRDBNet(2, 6, 3, 2).requires_grad_(False)
    low = torch.rand(1, 3, 8, 8)
    expected = network(low)
    with patch.object(DenseBlock, "forward", lambda self, x: dense_block(x, list(self.children()), 0.2)):
        compare(network(low), expected, "Inside the real RRDBNet", tolerance=1e-4)
    x.requires_grad_()
    compare_gradients(dense_block(x, convolutions, 0.2), block(x), [x], "The first block")


def check_06c(residual_in_residual):
    """Compare with the dense block: what goes around the three of them, and how much of it is added?

    Send x through the three blocks, one after the other. Multiply what comes out by beta and add x.
    """
    torch.manual_seed(3)
    blocks, x = [random_block(4, 2) for _ in range(3)], torch.randn(1, 4, 7, 7)
    one, two, three = blocks
    deep = three(two(one(x)))
    mistakes = {
        "the outer residual scaling is missing.": x + deep,
        "the outer shortcut is missing: x is not added.": 0.2 * deep,
        "this is the chain of blocks alone, without the outer shortcut and scaling.": deep,
        "all three blocks see x itself. They work one after the other.": x + 0.2 * (one(x) + two(x) + three(x)),
        "the blocks run in the reverse order.": x + 0.2 * one(two(three(x))),
        "x was overwritten on the way: the x that came in must be added.": 1.2 * deep,
        "x is multiplied by 1 − beta. x must stay whole.": 0.8 * x + 0.2 * deep,
        "x is scaled as well. x must stay whole.": 0.2 * (x + deep),
    }
    compare(residual_in_residual(x, blocks, 0.2), x + 0.2 * deep, "Three blocks with 4 features", mistakes, 1e-4)
    written_in = {"beta is written into it: use the one that is given.": x + 0.2 * deep}
    compare(residual_in_residual(x, blocks, 0.7), x + 0.7 * deep, "The same with beta = 0.7", written_in, 1e-4)
    real = RRDB(4, 2).requires_grad_(False)
    compare(residual_in_residual(x, list(real.children()), 0.2), real(x), "The blocks of a real RRDB", tolerance=1e-4)
    x.requires_grad_()
    compare_gradients(residual_in_residual(x, list(real.children()), 0.2), real(x), [x], "The same")


def check_06d(weights_of_rrdb):
    """Count one convolution first. How many of them has a dense block, and with which channels?

    A convolution of 3×3 with i channels in and o channels out has 9·i·o weights and o biases. Exercise 06a has
    the channels. An RRDB has three dense blocks.
    """
    for features, growth in ((64, 32), (32, 16), (10, 3)):
        inputs = [features + growth * number for number in range(5)]
        outputs = [*[growth] * 4, features]
        block = sum(9 * i * o + o for i, o in zip(inputs, outputs, strict=True))
        mistakes = {
            "this is one dense block. An RRDB has three.": block,
            "the biases are missing.": 3 * sum(9 * i * o for i, o in zip(inputs, outputs, strict=True)),
            "the fifth convolution gives `features` channels, not `growth`.": 3
            * sum(9 * i * growth + growth for i in inputs),
        }
        expected = sum(parameter.numel() for parameter in RRDB(features, growth).parameters())
        compare(weights_of_rrdb(features, growth), expected, f"{features} features, growth {growth}", mistakes)
