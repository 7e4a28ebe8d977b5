"""The checks of the exercises of lesson 8; the paragraphs of each docstring are the hints."""

from comparing import Mismatch, compare, compare_gradients

import torch
import torch.nn.functional as F

import esrgan


def logits() -> tuple[torch.Tensor, torch.Tensor]:
    """Of real and fake pictures, the real ones somewhat ahead."""
    generator = torch.Generator().manual_seed(6)
    return 2 * torch.randn(8, 1, generator=generator) + 0.7, torch.randn(8, 1, generator=generator) - 0.4


def also_for_maps(loss, real_one, mistakes, of="both") -> None:
    """A logit for every pixel, as the U-Net gives; batches of different sizes; very large logits; and the gradient.

    `mistakes` maps an explanation to a loss with the gradient that this mistake gives.
    """
    generator = torch.Generator().manual_seed(8)
    real, fake = torch.randn(3, 1, 4, 5, generator=generator), torch.randn(2, 1, 4, 5, generator=generator)
    what = "Three real and two fake maps of 4×5 logits"
    compare(loss(real, fake), real_one(real, fake), what)
    large = torch.tensor([200.0])
    for certain in ((-large, large), (large, -large)):
        actual = loss(*certain)
        if not torch.as_tensor(actual).isfinite().all():
            raise Mismatch("Logits of ±200 give infinity or NaN: σ is rounded to 0 before the logarithm. Use softplus.")
        compare(actual, real_one(*certain), "Logits of ±200, a discriminator that is certain")
    real.requires_grad_()
    fake.requires_grad_()
    wrong = {explanation: mistake(real, fake) for explanation, mistake in mistakes.items()}
    compare_gradients(loss(real, fake), real_one(real, fake), [real, fake] if of == "both" else [fake], what, wrong)


def without_one(loss) -> dict:
    """Explanation → the loss without the gradient of the real or of the fake logits."""
    return {
        "that of the real logits is missing.": lambda real, fake: loss(real.detach(), fake),
        "that of the fake logits is missing. Detach the pictures where you must, not their logits.": (
            lambda real, fake: loss(real, fake.detach())
        ),
    }


def check_08a(standard_loss):
    """Write down −log σ(C) and −log(1 − σ(C)) by the exponential function. Which function of PyTorch is that?

    −log σ(C) is F.softplus(−C), and −log(1 − σ(C)) is F.softplus(C).

    Written with torch.log and torch.sigmoid the loss overflows. Take the mean of each of the two and add them.
    """
    real, fake = logits()
    mistakes = {
        "real and fake have changed places.": esrgan.vanilla_discriminator_loss(fake, real),
        "both terms pull the same way: real logits should rise, fake ones fall.": (
            F.softplus(-real).mean() + F.softplus(-fake).mean()
        ),
        "only the real ones count.": F.softplus(-real).mean(),
        "only the fake ones count.": F.softplus(fake).mean(),
        "the two terms are averaged. Here they are added.": esrgan.vanilla_discriminator_loss(real, fake) / 2,
        "the logits are summed, not averaged: the loss would grow with the batch.": (
            F.softplus(-real).sum() + F.softplus(fake).sum()
        ),
    }
    compare(standard_loss(real, fake), esrgan.vanilla_discriminator_loss(real, fake), "Eight logits each", mistakes)
    loss = esrgan.vanilla_discriminator_loss
    also_for_maps(standard_loss, loss, without_one(loss))


def hinge(real, fake):
    """The discriminator's hinge loss."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def check_08b(hinge_loss):
    """When does a real logit cost nothing? When a fake one?

    A real logit below 1 costs its distance from 1. A fake logit above −1 costs its distance from −1. Others cost
    nothing: F.relu is max(0, ·).
    """
    real, fake = logits()
    mistakes = {
        "beyond ±1 a logit must neither cost nor gain: cut off at zero with relu.": (1 - real).mean()
        + (1 + fake).mean(),
        "fake logits should be below −1: relu(1 + fake).": F.relu(1 - real).mean() + F.relu(1 - fake).mean(),
        "real and fake have changed places.": F.relu(1 - fake).mean() + F.relu(1 + real).mean(),
        "the margin of 1 is missing.": F.relu(-real).mean() + F.relu(fake).mean(),
        "the two terms are averaged. They are added here.": hinge(real, fake) / 2,
        "the logits are summed, not averaged: the loss would grow with the batch.": 8 * hinge(real, fake),
    }
    compare(hinge_loss(real, fake), hinge(real, fake), "Eight logits each", mistakes)
    also_for_maps(hinge_loss, hinge, without_one(hinge))


def check_08c(relativistic_loss):
    """What does the discriminator know about the other side when it looks at a real picture?

    From every real logit subtract the mean of the fake ones, and the reverse. What is left goes into the standard
    loss. Then divide by two.
    """
    real, fake = logits()
    a, b = real - fake.mean(), fake - real.mean()
    mistakes = {
        "this is the standard loss: the mean of the other side is not subtracted.": (
            esrgan.vanilla_discriminator_loss(real, fake) / 2
        ),
        "each picture is compared with its partner. The average of the other side is expected.": (
            F.softplus(-(real - fake)).mean() + F.softplus(fake - real).mean()
        )
        / 2,
        "the terms are added, as in the paper. The authors' code and ours take their mean.": (
            F.softplus(-a).mean() + F.softplus(b).mean()
        ),
        "this is the generator's loss: for the discriminator real should be above fake.": (
            esrgan.relativistic_generator_loss(real, fake)
        ),
        "the mean of the same side is subtracted. Take the other side's.": (
            F.softplus(-(real - real.mean())).mean() + F.softplus(fake - fake.mean()).mean()
        )
        / 2,
        "only the real half is there.": F.softplus(-a).mean() / 2,
    }
    expected = esrgan.relativistic_discriminator_loss(real, fake)
    compare(relativistic_loss(real, fake), expected, "Eight logits each", mistakes)

    def averages_cut(real, fake):
        return (F.softplus(fake.mean().detach() - real).mean() + F.softplus(fake - real.mean().detach()).mean()) / 2

    cut = {"the averages are detached, or plain numbers. They change with the network too.": averages_cut}
    loss = esrgan.relativistic_discriminator_loss
    also_for_maps(relativistic_loss, loss, cut | without_one(loss))


def check_08d(relativistic_for_generator):
    """What does the generator want to be true, where the discriminator wants the opposite?

    Exchange real and fake in the discriminator's loss. The real half matters too: raising the average of the fake
    logits makes the real pictures look less real.
    """
    real, fake = logits()
    b, a = fake - real.mean(), real - fake.mean()
    mistakes = {
        "the real half is missing: −E[log(1 − D(real))] teaches the generator too.": F.softplus(-b).mean(),
        "the real half is missing: −E[log(1 − D(real))] teaches the generator too, and so is half of the loss.": (
            F.softplus(-b).mean() / 2
        ),
        "this is the discriminator's loss. For the generator the answers are exchanged.": (
            esrgan.relativistic_discriminator_loss(real, fake)
        ),
        "this is the discriminator's loss with a minus. It has no limit below, and its gradient fades where the "
        "discriminator is certain.": (-esrgan.relativistic_discriminator_loss(real, fake)),
        "the terms are added. Our code takes their mean.": F.softplus(a).mean() + F.softplus(-b).mean(),
    }
    expected = esrgan.relativistic_generator_loss(real, fake)
    compare(relativistic_for_generator(real, fake), expected, "Eight logits each", mistakes)

    def average_cut(real, fake):
        return (F.softplus(real - fake.mean().detach()).mean() + F.softplus(real.mean() - fake).mean()) / 2

    cut = {
        "the average of the fake logits is detached, or a plain number: the real half teaches nothing.": average_cut,
        "no gradient reaches the fake logits: do not detach them.": (
            lambda real, fake: esrgan.relativistic_generator_loss(real, fake.detach())
        ),
    }
    # The real logits come from no generator: theirs may be detached.
    also_for_maps(relativistic_for_generator, esrgan.relativistic_generator_loss, cut, of="fake")
