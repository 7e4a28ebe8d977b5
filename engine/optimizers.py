"""Muon: a step that changes a layer equally in all directions.

Read as a matrix, one row per output channel, the gradient of a convolution has one direction that is ten times
as long as the next and hundreds of times as long as the last. Adam scales every weight for itself, which evens out
little of that, and what the short directions stand for is learnt slowly. Muon takes the average gradient G = U S Vᵀ and
steps along U Vᵀ: the same directions, all of one length.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024. How long that is, says section 2.2 of
Liu et al., "Muon is scalable for LLM training", 2025: as long as Adam's step, so that both share a learning rate.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcnn import GREY, SRCNN, constant_response

MOMENTUM = 0.95
# a·x + b·x³ + c·x⁵, applied five times, brings every x from 0.003 to 1 near 1, to 0.7..1.2: Jordan's numbers.
ITERATIONS, COEFFICIENTS = 5, (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Adam):
    """Muon for the convolutions of a network but for the first and the last, and Adam for all else.

    What pixels enter by and what makes them has few channels, each with a meaning of its own, and a bias is no matrix.
    """

    def __init__(self, network: nn.Module, **settings):
        super().__init__(network.parameters(), foreach=True, **settings)
        self.hidden = [weight for weight in network.parameters() if weight.ndim == 4][1:-1]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure: nothing here uses one
        """One step of both kinds; a weight without a gradient stays as it is."""
        alike: dict[tuple, list[Tensor]] = {}
        learning = [weight for weight in self.hidden if weight.grad is not None]
        for weight in learning:
            alike.setdefault(weight.shape, []).append(weight)
        for weights in alike.values():  # all of a shape at once, which is several times faster
            averages = self.follow(weights)
            matrices = torch.stack(averages).flatten(2)
            steps = orthogonal(matrices) * (0.2 * max(matrices.shape[1:]) ** 0.5)
            torch._foreach_add_(weights, list(steps.view(-1, *weights[0].shape)), alpha=-self.param_groups[0]["lr"])
        for weight in learning:
            weight.grad = None  # so that Adam leaves it alone
        super().step()

    def follow(self, weights: list[Tensor]) -> tuple[Tensor, ...]:
        """The running averages of these weights' gradients, one step ahead (Nesterov's momentum)."""
        for weight in weights:  # "step" is what Adam looks for in a state that it loads
            if "average" not in self.state[weight]:
                self.state[weight] |= {"step": torch.tensor(0.0), "average": torch.zeros_like(weight)}
        gradients, averages = [weight.grad for weight in weights], [self.state[weight]["average"] for weight in weights]
        torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
        return torch._foreach_lerp(gradients, averages, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, rows, columns): every G = U S Vᵀ → about U Vᵀ, by matrix products alone (Newton-Schulz)."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonal(matrices.mT).mT
    a, b, c = COEFFICIENTS
    result = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)  # no singular value is over 1
    for _ in range(ITERATIONS):
        square = result @ result.mT
        result = a * result + (b * square + c * square @ square) @ result
    return result


class AdamFromGrey(torch.optim.Adam):
    """Adam for SRCNN, which learns what a layer answers to an even grey picture in place of its bias.

    Pixels and features are all positive. A weight that changes shifts the whole picture by its share of their mean, and
    the gradients of a filter's weights are nearly one number, the mean's. Where only differences from grey reach
    them they are about the structure of the picture, and the network learns several times faster. The idea is
    old (LeCun et al., "Efficient BackProp", 1998, section 4.3, for the input; Schraudolph, "Centering neural network
    gradient factors", 1998, for all layers); here it is a change of coordinates, by the chain rule:

        answer = bias + Σ weight · grey        grey of the next layer = ReLU(answer)

    For a chain of convolutions with ReLU between them, all of which have a gradient. The network stays as it is, and
    the state has Adam's form, but its moments are those of weights and answers.
    """

    def __init__(self, network: SRCNN, **settings):
        super().__init__(network.parameters(), **settings)
        self.layers = [network.extract, network.map, network.reconstruct]

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # without a closure: nothing here uses one
        """One step along the gradients of weights and biases, after turning them into those of weights and answers."""
        grey = self.layers[0].weight.new_tensor([GREY])
        greys: list[Tensor] = []
        answers: list[Tensor] = []
        for layer in self.layers:
            greys.append(grey)
            answers.append(constant_response(grey, layer))
            grey = F.relu(answers[-1])
        for layer, grey in zip(self.layers, greys, strict=True):
            layer.weight.grad -= layer.bias.grad[:, None, None, None] * grey[:, None, None]
        for layer, following, answer in zip(self.layers[:-1], self.layers[1:], answers[:-1], strict=True):
            layer.bias.grad -= (answer > 0) * (following.bias.grad @ following.weight.sum((2, 3)))
        before = [layer.bias.clone() for layer in self.layers]
        super().step()
        grey = greys[0]
        for layer, answer, bias in zip(self.layers, answers, before, strict=True):
            answer += layer.bias - bias  # Adam's step, which was meant for the answer
            layer.bias += answer - constant_response(grey, layer)
            grey = F.relu(answer)
