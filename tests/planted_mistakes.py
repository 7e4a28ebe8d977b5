"""Plausible wrong answers to the exercises of the lessons: (exercise, wrong answer, a part of what must be said)."""

import math
from functools import partial

import numpy
import torch
import torch.nn.functional as F
from torch import nn

import esrgan
from imaging import distortions
from imaging.images import crop_to_multiple, psnr, resize, rgb_to_luma, rgb_to_ycbcr, ycbcr_to_rgb

BT601 = torch.tensor([65.481, 128.553, 24.966]).view(1, 3, 1, 1)


def ssim_with_constants(c1, c2):
    def ssim(x, y):
        covariance = (x * y).mean() - x.mean() * y.mean()
        top = (2 * x.mean() * y.mean() + c1) * (2 * covariance + c2)
        bottom = (x.mean() ** 2 + y.mean() ** 2 + c1) * (x.var(correction=0) + y.var(correction=0) + c2)
        return top / bottom

    return ssim


LESSON_1 = [
    ("01a", lambda rgb: (BT601 / BT601.sum() * rgb).sum(1, keepdim=True), "full-range"),
    ("01a", lambda rgb: (BT601 * rgb).sum(1, keepdim=True) / 255, "offset of 16 is missing"),
    ("01a", lambda rgb: (16 + (BT601.flip(1) * rgb).sum(1, keepdim=True)) / 255, "blue, green, red"),
    ("01a", lambda rgb: (16 + (BT601 * rgb).sum(1)) / 255, "keepdim"),
    ("01b", lambda restored, high: 10 * torch.log10(1 / (restored - high).square().mean()), "whole batch"),
    (
        "01b",
        lambda restored, high: 10 * torch.log10(255**2 / (restored - high).square().mean(dim=(1, 2, 3))),
        "not 255",
    ),
    ("01b", lambda restored, high: -10 * torch.log((restored - high).square().mean(dim=(1, 2, 3))), "base 10"),
    ("01c", ssim_with_constants(0, 0), "constants c₁ and c₂ are missing"),
    ("01c", ssim_with_constants(6.5025, 58.5225), "pixels from 0 to 255"),
]


def keys(x, a, absolute=True):
    x = x.abs() if absolute else x
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return torch.where(x <= 1, (a + 2) * x**3 - (a + 3) * x**2 + 1, torch.where(x <= 2, far, 0.0))


def resize_matrix(length, new_length, antialias=True, mirrored=True, normalised=True):
    scale = new_length / length
    positions = torch.arange(-length, 2 * length) if mirrored else torch.arange(length)
    centres = (torch.arange(new_length)[:, None] + 0.5) / scale - 0.5
    weights = keys((centres - positions) / (max(1, 1 / scale) if antialias else 1), -0.5)
    weights = weights / weights.sum(dim=1, keepdim=True) if normalised else weights
    parts = weights.split(length, dim=1)
    return parts[1] + parts[0].flip(1) + parts[2].flip(1) if mirrored else weights


LESSON_2 = [
    ("02a", lambda x, a: keys(x, -0.75), "another one"),
    ("02a", lambda x, a: keys(x, a, absolute=False), "absolute value is missing"),
    ("02a", lambda x, a: keys(x, a) * (x.abs() <= 1), "outer piece"),
    ("02b", lambda new_length, scale: torch.arange(new_length) / scale, "half pixels are missing"),
    ("02b", lambda new_length, scale: (torch.arange(new_length) + 0.5) * scale - 0.5, "you multiply"),
    ("02b", lambda n, scale: torch.arange(n) * (n / scale - 1) / (n - 1), "align_corners"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, antialias=False), "no anti-aliasing"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, mirrored=False), "as Pillow does"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length, normalised=False), "do not sum to 1"),
    ("02c", lambda length, new_length: resize_matrix(length, new_length).T, "transposed"),
]


def srcnn(kernels, *, between=nn.ReLU, last=nn.Identity, padding=0, features=(64, 32)):
    first, second = features
    return nn.Sequential(
        nn.Conv2d(1, first, kernels[0], padding=padding),
        between(),
        nn.Conv2d(first, second, kernels[1], padding=padding),
        between(),
        nn.Conv2d(second, 1, kernels[2], padding=padding),
        last(),
    )


def loss_from_the_corner(network, low, high):
    restored = network(low)
    return F.mse_loss(restored, high[..., : restored.shape[-2], : restored.shape[-1]])


def loss_in_the_middle(network, low, high, kind=torch.square, total=torch.mean):
    restored = network(low)
    border = (high.shape[-1] - restored.shape[-1]) // 2
    cut = high[..., border : high.shape[-2] - border, border : high.shape[-1] - border]
    return total(kind(restored - cut))


def loss_without_border_zero(network, low, high):
    restored = network(low)
    border = (high.shape[-1] - restored.shape[-1]) // 2
    return (restored - high[..., border:-border, border:-border]).square().mean()


def colour_one_by_one(network, low, scale):
    return torch.cat([network(channel) for channel in resize(low, scale).split(1, 1)], 1).clamp(0, 1)


def colour_forgotten(network, low, scale):
    return network(rgb_to_luma(resize(low, scale))).expand(-1, 3, -1, -1)


def colour_not_converted(network, low, scale):
    ycbcr = rgb_to_ycbcr(resize(low, scale))
    return torch.cat((network(ycbcr[:, :1]), ycbcr[:, 1:]), 1).clamp(0, 1)


def colour_not_enlarged(network, low, scale):
    ycbcr = rgb_to_ycbcr(low)
    return ycbcr_to_rgb(torch.cat((network(ycbcr[:, :1]), ycbcr[:, 1:]), 1)).clamp(0, 1)


LESSON_3 = [
    ("03a", lambda kernels: sum(kernels) - len(kernels), "Only one direction"),
    ("03a", lambda kernels: sum(kernels) / 2, "not k/2"),
    ("03a", lambda kernels: max(kernels) // 2, "largest filter alone"),
    ("03b", partial(srcnn, between=nn.Identity), "ReLU is missing"),
    ("03b", partial(srcnn, last=nn.ReLU), "ReLU after the last layer"),
    ("03b", partial(srcnn, padding="same"), "your convolutions pad"),
    ("03b", partial(srcnn, features=(32, 64)), "the weights have the shapes"),
    ("03c", loss_from_the_corner, "upper left corner"),
    ("03c", loss_without_border_zero, "0:-0"),
    ("03c", partial(loss_in_the_middle, total=torch.sum), "This is a sum".lower()),
    ("03c", partial(loss_in_the_middle, kind=torch.abs), "absolute differences"),
    ("03c", lambda network, low, high: loss_in_the_middle(network, low, high).detach(), "gradient is lost"),
    ("03d", lambda network, low, scale: resize(low, scale).clamp(0, 1), "bicubic alone"),
    ("03d", colour_one_by_one, "one by one"),
    ("03d", colour_forgotten, "colour is gone"),
    ("03d", colour_not_converted, "still Y, Cb, Cr"),
    ("03d", colour_not_enlarged, "the shape is 1×3×24×20"),
]


def split_by_patch(names, held_out_count, seed):
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    return order[2 * held_out_count :], order[: 2 * held_out_count]


def split_always_the_same(names, held_out_count, seed):
    chosen = sorted(set(names))[:held_out_count]
    return [i for i, one in enumerate(names) if one not in chosen], [i for i, one in enumerate(names) if one in chosen]


def split_without_seed(names, held_out_count, seed):
    photographs = sorted(set(names))
    split_without_seed.calls = getattr(split_without_seed, "calls", 0) + 1
    chosen = {photographs[(split_without_seed.calls + i) % len(photographs)] for i in range(held_out_count)}
    return [i for i, one in enumerate(names) if one not in chosen], [i for i, one in enumerate(names) if one in chosen]


LESSON_4 = [
    ("04a", split_by_patch, "this is a split by patch"),
    ("04a", split_always_the_same, "not sampled at random"),
    ("04a", split_without_seed, "when it was called again"),
    (
        "04b",
        lambda step, steps, learning_rate: learning_rate * math.cos(math.pi * step / steps),
        "down to −learning_rate",
    ),
    ("04b", lambda step, steps, learning_rate: learning_rate * (1 - step / steps), "straight line"),
    ("04b", lambda step, steps, learning_rate: learning_rate / 2 * (1 + math.cos(180 * step / steps)), "radians"),
    ("04c", lambda plausible, loss: plausible.mean(), "L1 answers the median"),
    ("04c", lambda plausible, loss: plausible.median(), "L2 answers the mean"),
    ("04d", lambda batches: sum(batch.mean() for batch in batches) / len(batches), "counts four times"),
    (
        "04d",
        lambda batches: sum(batch.mean() for batch in batches) / sum(map(len, batches)),
        "divided by the number of pictures",
    ),
]


def shuffle(x, scale, order):
    count, channels, height, width = x.shape
    squares = x.view(count, channels // scale**2, scale, scale, height, width)
    return squares.permute(order).reshape(count, -1, scale * height, scale * width)


def stamps_at_every_pixel(length, kernel, stride):
    return torch.conv_transpose1d(torch.ones(1, 1, length), torch.ones(1, 1, kernel))[0, 0]


def stamps_once(length, kernel, stride):
    counts = torch.zeros((length - 1) * stride + kernel)
    for i in range(length):
        counts[i * stride : i * stride + kernel] = 1
    return counts


LESSON_5 = [
    ("05a", partial(shuffle, order=(0, 1, 4, 3, 5, 2)), "rows and columns inside the squares are exchanged"),
    ("05a", lambda x, scale: x.reshape(len(x), -1, scale * x.shape[2], scale * x.shape[3]), "only viewed"),
    ("05a", partial(shuffle, order=(0, 1, 2, 4, 3, 5)), "whole pictures lie beside each other"),
    ("05b", stamps_at_every_pixel, "every `stride`-th"),
    ("05b", stamps_once, "overwrite each other"),
    ("05c", lambda weight, scale: weight.repeat(scale**2, 1, 1, 1), "whole set of filters"),
    ("05c", lambda weight, scale: weight.repeat_interleave(scale, dim=0), "scale² pixels are needed"),
    ("05d", lambda body, low, scale: F.pixel_shuffle(body(low), scale), "residual alone"),
    (
        "05d",
        lambda body, low, scale: (
            F.pixel_shuffle(body(low), scale) + F.interpolate(low, scale_factor=scale, mode="bicubic")
        ),
        "repeats pixels",
    ),
]


def dense_block(x, convolutions, beta, slope=0.2, front=False, last=False):
    known = x
    for convolution in convolutions[:4]:
        new = F.leaky_relu(convolution(known), slope)
        known = torch.cat((new, known) if front else (known, new), dim=1)
    out = convolutions[4](known)
    return x + beta * (F.leaky_relu(out, 0.2) if last else out)


def chain(x, blocks):
    for block in blocks:
        x = block(x)
    return x


def weights(features, growth, blocks=3, bias=1):
    outputs = [growth] * 4 + [features]
    return blocks * sum(9 * (features + i * growth) * o + bias * o for i, o in enumerate(outputs))


LESSON_6 = [
    ("06a", lambda features, growth: [features] + [growth] * 4, "only the output of the one before"),
    ("06a", lambda features, growth: [growth] * 4 + [features], "channels that come out"),
    ("06b", lambda x, convolutions, beta: dense_block(x, convolutions, 1.0), "residual scaling is missing"),
    ("06b", partial(dense_block, slope=0.01), "PyTorch's usual one"),
    ("06b", partial(dense_block, last=True), "after the fifth"),
    ("06b", partial(dense_block, slope=1.0), "between the convolutions is missing"),
    ("06c", lambda x, blocks, beta: x + chain(x, blocks), "outer residual scaling is missing"),
    ("06c", lambda x, blocks, beta: chain(x, blocks), "chain of blocks alone"),
    ("06c", lambda x, blocks, beta: x + beta * sum(block(x) for block in blocks), "all three blocks see x itself"),
    ("06d", partial(weights, blocks=1), "one dense block"),
    ("06d", partial(weights, bias=0), "biases are missing"),
]


def shown(picture, scale):
    return resize(resize(picture, 1 / scale), scale)


LESSON_7 = [
    ("07a", lambda high, other, scale: shown(high, scale) + other, "whole of `other`"),
    ("07a", lambda high, other, scale: shown(other, scale) + high - shown(high, scale), "changed places"),
    ("07a", lambda high, other, scale: high + other - shown(other, scale), "keeps its own detail"),
    ("07b", lambda guess, plausible: (guess - plausible.mean(0)).square().mean(), "variance around it is missing"),
    ("07b", lambda guess, plausible: (guess - plausible).square().sum(), "this is a sum"),
    ("07c", lambda plausible, probabilities: plausible.mean(0, keepdim=True), "probabilities are not used"),
    ("07c", lambda plausible, probabilities: plausible[probabilities.argmax()][None], "most probable"),
    ("07c", lambda plausible, probabilities: (plausible * probabilities.view(-1, 1, 1, 1)).sum(0), "keepdim"),
]


def standard(real, fake):
    return F.softplus(-real).mean() + F.softplus(fake).mean()


LESSON_8 = [
    ("08a", lambda real, fake: standard(fake, real), "changed places"),
    ("08a", lambda real, fake: F.softplus(-real).mean() + F.softplus(-fake).mean(), "pull the same way"),
    ("08a", lambda real, fake: standard(real, fake) / 2, "averaged"),
    (
        "08a",
        lambda real, fake: -torch.log(torch.sigmoid(real)).mean() - torch.log(1 - torch.sigmoid(fake)).mean(),
        "infinity or NaN",
    ),
    ("08b", lambda real, fake: (1 - real).mean() + (1 + fake).mean(), "cut off at zero"),
    ("08b", lambda real, fake: F.relu(1 - real).mean() + F.relu(1 - fake).mean(), "relu(1 + fake)"),
    ("08c", lambda real, fake: standard(real, fake) / 2, "this is the standard loss"),
    ("08c", lambda real, fake: standard(real - fake, fake - real) / 2, "compared with its partner"),
    ("08c", lambda real, fake: standard(real - fake.mean(), fake - real.mean()), "the terms are added"),
    ("08c", lambda real, fake: standard(fake - real.mean(), real - fake.mean()) / 2, "generator's loss"),
    ("08d", lambda real, fake: F.softplus(real.mean() - fake).mean(), "real half is missing"),
    ("08d", lambda real, fake: F.softplus(real.mean() - fake).mean() / 2, "real half is missing"),
    (
        "08d",
        lambda real, fake: standard(real - fake.mean(), fake - real.mean()) / 2,
        "this is the discriminator's loss",
    ),
    ("08d", lambda real, fake: -standard(real - fake.mean(), fake - real.mean()) / 2, "with a minus"),
    ("08d", lambda real, fake: standard(fake.detach() - real.mean(), real - fake.detach().mean()) / 2, "no gradient"),
]

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


def perceptual_loss(vgg, restored, high, weights, see=lambda x: x, kind=torch.abs, weighted=True):
    one, other = vgg(restored), vgg(high)
    apart = {layer: kind(see(one[layer]) - see(other[layer])).mean() for layer in weights}
    return sum((weights[layer] if weighted else 1) * apart[layer] for layer in weights)


def gram(values, share=None):
    flat = values.flatten(2)
    return flat @ flat.transpose(1, 2) / (share or flat[0].numel())


LESSON_9 = [
    ("09a", lambda picture: picture, "tints pictures"),
    ("09a", lambda picture: picture - MEAN, "division by the deviation is missing"),
    ("09a", lambda picture: (255 * picture - MEAN) / DEVIATION, "not to 255"),
    ("09a", lambda picture: 2 * picture - 1, "−1..1"),
    ("09b", partial(perceptual_loss, see=torch.relu), "after the activation"),
    ("09b", partial(perceptual_loss, weighted=False), "not used"),
    ("09b", partial(perceptual_loss, kind=torch.square), "squared differences"),
    # A public repository's mistake: the loss is wrapped in a new tensor, and trains nothing.
    ("09b", lambda *arguments: torch.Tensor([perceptual_loss(*arguments).item()])[0], "gradient is lost"),
    ("09c", partial(gram, share=1), "not divided"),
    ("09c", partial(gram, share=20), "H·W only"),
    ("09c", lambda values: values.flatten(2).transpose(1, 2) @ values.flatten(2) / 60, "places are compared"),
]


def generator_loss(restored, high, discriminator, perceptual, share=0.005, pixels=0.01, loss=None):
    loss = loss or esrgan.relativistic_generator_loss
    adversarial = loss(discriminator(high), discriminator(restored))
    return perceptual(restored, high) + share * adversarial + pixels * F.l1_loss(restored, high)


def discriminator_loss_in_one_batch(restored, high, discriminator):
    real, fake = discriminator(torch.cat((high, restored.detach()))).chunk(2)
    return esrgan.relativistic_discriminator_loss(real, fake)


def interpolated_in_place(psnr_weights, gan_weights, alpha):
    for key in psnr_weights:
        psnr_weights[key].lerp_(gan_weights[key], alpha)
    return psnr_weights


def kept(points, better):
    return [i for i, point in enumerate(points) if not any(better(other, point) for other in points)]


LESSON_10 = [
    ("10a", partial(generator_loss, share=0.01, pixels=0.005), "changed places"),
    ("10a", partial(generator_loss, share=1, pixels=1), "without their weights"),
    ("10a", partial(generator_loss, pixels=0), "the pixels are missing"),
    ("10a", partial(generator_loss, loss=esrgan.relativistic_discriminator_loss), "the discriminator's own loss"),
    ("10a", partial(generator_loss, loss=lambda real, fake: F.softplus(-fake).mean()), "standard adversarial"),
    (
        "10a",
        partial(generator_loss, loss=lambda *logits: esrgan.relativistic_generator_loss(*logits).detach()),
        "gives no gradient",
    ),
    (
        "10b",
        lambda restored, high, discriminator: esrgan.relativistic_discriminator_loss(
            discriminator(high), discriminator(restored)
        ),
        "reaches the restored pictures",
    ),
    (
        "10b",
        lambda restored, high, discriminator: esrgan.relativistic_discriminator_loss(
            discriminator(restored.detach()), discriminator(high)
        ),
        "changed places",
    ),
    ("10b", discriminator_loss_in_one_batch, "in one batch"),
    (
        "10b",
        lambda restored, high, discriminator: esrgan.relativistic_discriminator_loss(
            discriminator(high).detach(), discriminator(restored).detach()
        ),
        "not the logits",
    ),
    ("10c", lambda one, other, alpha: {key: alpha * one[key] + (1 - alpha) * other[key] for key in one}, "the GAN"),
    ("10c", lambda one, other, alpha: {key: one[key] + alpha * other[key] for key in one}, "counts whole"),
    ("10c", interpolated_in_place, "has changed"),
    ("10d", partial(kept, better=lambda a, b: a[0] >= b[0] and a[1] >= b[1] and a != b), "large distance"),
    ("10d", partial(kept, better=lambda a, b: a[0] > b[0] and a[1] < b[1]), "equal in one figure"),
    ("10d", partial(kept, better=lambda a, b: a[0] > b[0]), "best PSNR alone"),
    ("10d", partial(kept, better=lambda a, b: a is not b and a[0] >= b[0] and a[1] <= b[1]), "Neither is better"),
]


def taps_of(reach):
    taps = torch.arange(-reach, reach + 1.0)
    return taps[:, None] ** 2 + taps**2


def normalised(kernel):
    return kernel / kernel.sum()


def gaussian_instead(picture, photons, generator):
    return picture + (picture / photons).sqrt() * torch.randn(picture.shape, generator=generator)


DCT = distortions._DCT


def quantised(block, steps, matrix=DCT, rounded=torch.round, times=True, offset=128):
    numbers = rounded(matrix @ (block - offset) @ matrix.T / steps)
    return matrix.T @ (numbers * steps if times else numbers) @ matrix + offset


def noisy(picture, sigma, generator):
    return distortions.gaussian_noise(picture, torch.tensor([sigma]), torch.tensor([False]), generator)


def saved(picture, quality):
    return distortions.jpeg(picture, torch.tensor([quality]))


def noise_after_jpeg(high, kernel, scale, sigma, quality, generator):
    return noisy(saved(resize(distortions.filter_each(high, kernel), 1 / scale), quality), sigma, generator)


def noise_before_shrinking(high, kernel, scale, sigma, quality, generator):
    return saved(resize(noisy(distortions.filter_each(high, kernel), sigma, generator), 1 / scale), quality)


def blur_after_shrinking(high, kernel, scale, sigma, quality, generator):
    return saved(noisy(distortions.filter_each(resize(high, 1 / scale), kernel), sigma, generator), quality)


LESSON_11 = [
    ("11a", lambda reach, sigma, beta: 1 / (1 + (taps_of(reach) / sigma**2) ** beta), "not divided by its sum"),
    (
        "11a",
        lambda reach, sigma, beta: normalised(torch.exp(-((taps_of(reach) / sigma**2) ** beta) / 2)),
        "this is the Gaussian, exp",
    ),
    ("11a", lambda reach, sigma, beta: normalised(1 / (1 + (taps_of(reach) / sigma) ** beta)), "σ is not squared"),
    ("11b", lambda picture, photons, generator: torch.poisson(picture * photons, generator=generator), "Divide by"),
    (
        "11b",
        lambda picture, photons, generator: torch.poisson(picture, generator=generator) / photons,
        "multiply by `photons` first",
    ),
    ("11b", lambda picture, photons, generator: torch.poisson(picture * photons) / photons, "pass the generator on"),
    ("11b", gaussian_instead, "whole numbers"),
    ("11c", partial(quantised, times=False), "not multiplied by their steps"),
    ("11c", partial(quantised, matrix=DCT.T), "the wrong way first"),
    ("11c", partial(quantised, rounded=torch.trunc), "cut off"),
    ("11c", lambda block, steps: ((block - 128) / steps).round() * steps + 128, "the pixels themselves"),
    ("11c", lambda block, steps: quantised(block, steps) - 128, "much too dark"),
    ("11d", noise_after_jpeg, "the noise comes after JPEG"),
    ("11d", noise_before_shrinking, "before shrinking"),
    ("11d", blur_after_shrinking, "after shrinking"),
]


def pooled(pool, size, batch, generator, draw="without repeating", put=True, join=True):
    if len(pool) + len(batch) <= size:
        if join:
            pool.extend(batch)
        return list(batch)
    places = {
        "without repeating": lambda: torch.randperm(size, generator=generator)[: len(batch)].tolist(),
        "unseeded": lambda: torch.randperm(size)[: len(batch)].tolist(),
        "with repeating": lambda: torch.randint(2, (len(batch),), generator=generator).tolist(),
        "the oldest": lambda: range(len(batch)),
    }[draw]()
    leaving = [pool[place] for place in places]
    if draw == "the oldest":
        pool[:] = pool[len(batch) :] + batch
    elif put:
        for place, new in zip(places, batch, strict=True):
            pool[place] = new
    return leaving


def growing_pool(pool, size, batch, generator):
    pool.extend(batch)
    if len(pool) <= size:
        return list(batch)
    return [pool[place] for place in torch.randperm(len(pool), generator=generator)[: len(batch)].tolist()]


def unsharp(high, blur, weight, threshold, unit=255, soft=True, clip=True, sign=1):
    detail = high - blur(high)
    mask = (unit * detail.abs() > threshold).float()
    sharp = high + sign * weight * detail
    return high + (blur(mask) if soft else mask) * ((sharp.clamp(0, 1) if clip else sharp) - high)


def power_round(weight, u):
    matrix = weight.flatten(1)
    v = F.normalize(matrix.T @ u, dim=0)
    return matrix, v, F.normalize(matrix @ v, dim=0)


def divided_by_old_stretch(weight, u):
    matrix, v, following = power_round(weight, u)
    return weight / (u @ matrix @ v), following


def divided_exactly(weight, u):
    return weight / torch.linalg.matrix_norm(weight.flatten(1), 2), power_round(weight, u)[2]


def without_memory(weight, u):
    matrix, v, following = power_round(weight, u)
    return weight / (following @ matrix @ v), u


LESSON_12 = [
    ("12a", partial(pooled, draw="with repeating"), "comes out twice"),
    ("12a", partial(pooled, draw="the oldest"), "The oldest four"),
    ("12a", partial(pooled, draw="unseeded"), "pass the generator on"),
    ("12a", partial(pooled, put=False), "not in the pool afterwards"),
    ("12a", partial(pooled, join=False), "do not join the pool"),
    ("12a", lambda pool, size, batch, generator: pool.extend(batch) or list(batch), "the pool has"),
    ("12a", growing_pool, "the pool has"),
    ("12b", partial(unsharp, unit=1), "levels of 255"),
    ("12b", partial(unsharp, soft=False), "mask is not blurred"),
    ("12b", partial(unsharp, clip=False), "not clipped"),
    ("12b", partial(unsharp, sign=-1), "this blurs"),
    ("12b", lambda high, blur, weight, threshold: (high + weight * (high - blur(high))).clamp(0, 1), "mask is missing"),
    ("12c", lambda weight, u: (weight / weight.norm(), power_round(weight, u)[2]), "Frobenius"),
    ("12c", divided_exactly, "by a decomposition"),
    ("12c", divided_by_old_stretch, "the old u"),
    ("12c", without_memory, "the same u comes back"),
]


def window(start, stop, length, margin, fold, low=max, high=min):
    first, last = low(0, start - margin), stop + margin
    return first - first % fold, high(length, last + -last % fold)


def fold(weight3, bias3, weight1, bias1, place=(1, 1, 1, 1), identity=True, bias=True):
    whole = weight3 + F.pad(weight1, place)
    whole = whole + nn.init.dirac_(torch.empty_like(whole)) if identity else whole
    return whole, bias3 + bias1 if bias else bias3


def eight_bits(weight, dim=(1, 2, 3), most=127, turn=torch.round, kind=torch.int8):
    steps = weight.abs().amax(dim=dim, keepdim=True) / most
    return turn(weight / steps).to(kind), steps.expand(len(weight), 1, 1, 1)


LESSON_13 = [
    ("13a", lambda start, stop, length, margin, fold: (start, stop), "there is no margin"),
    ("13a", partial(window, low=lambda zero, first: first), "begins before the line"),
    ("13a", partial(window, high=lambda length, last: last), "ends after the line"),
    (
        "13a",
        lambda start, stop, length, margin, fold: window(start, stop, length, margin, 1),
        "multiples of `fold` are not respected",
    ),
    ("13b", lambda i, o, k, h, w: (k * k * i * o * h * w, 4 * ((i + o) * h * w + k * k * i * o)), "twice as many"),
    ("13b", lambda i, o, k, h, w: (2 * k * k * i * o * h * w, (i + o) * h * w + k * k * i * o), "not bytes"),
    ("13b", lambda i, o, k, h, w: (2 * k * k * i * o * h * w, 4 * (i + o) * h * w), "weights are read"),
    ("13c", partial(fold, identity=False), "the identity is missing"),
    ("13c", partial(fold, place=(0, 2, 0, 2)), "lies in a corner"),
    ("13c", partial(fold, bias=False), "bias of the 1×1 branch"),
    ("13c", lambda weight3, bias3, weight1, bias1: fold(weight3 + weight1, bias3, 0 * weight1, bias1), "all nine"),
    ("13d", partial(eight_bits, dim=(0, 1, 2, 3)), "the same step is used"),
    ("13d", partial(eight_bits, turn=torch.trunc), "cut off, not rounded"),
    ("13d", partial(eight_bits, kind=torch.float32), "as much memory as before"),
    ("13d", partial(eight_bits, most=128), "+128 does not exist"),
]


def baseline(high, scale, shrink, enlarge, border=True):
    enlarged = enlarge(shrink(high))[..., : high.shape[-2], : high.shape[-1]]
    return psnr(enlarged, high[..., : enlarged.shape[-2], : enlarged.shape[-1]], scale if border else 0)


def pair_by_beginning(lows, highs):
    pairs = [(low, high) for low in lows for high in sorted(highs) if low.startswith(high.removesuffix(".png"))]
    return sorted(pairs)


def pair_without_order(lows, highs):
    partners = {low.replace("_x4", ""): low for low in lows}
    return [(partners[high], high) for high in highs if high in partners]


def run_tiles(network, tiles, instead):
    results = []
    for tile in tiles:
        try:
            results.append(network(tile))
        except RuntimeError:
            results += instead(tile)
    return results


def enlarge_multiplied(rgba, scale):
    return resize(torch.cat((rgba[:, :3] * rgba[:, 3:], rgba[:, 3:]), 1), scale).clamp(0, 1)


def enlarge_and_multiply(rgba, scale):
    large = resize(rgba, scale)
    return torch.cat(((large[:, :3] * large[:, 3:].clamp(0, 1)), large[:, 3:]), 1).clamp(0, 1)


def resume(checkpoint, network, optimizer, step=None):
    network.load_state_dict(checkpoint["network"])
    if step is None:
        return checkpoint["step"]
    optimizer.load_state_dict(checkpoint["optimizer"])
    return step


LESSON_14 = [
    ("14a", lambda pixels: pixels.astype(numpy.float32) / pixels.max(), "its own largest value"),
    ("14a", lambda pixels: pixels.astype(numpy.float32) / 65535, "divided by 65535 too"),
    ("14a", lambda pixels: pixels.astype(numpy.float32) / 256**pixels.itemsize, "white is not 1"),
    ("14b", lambda values, size: values.view(size).T, "before they are turned"),
    ("14b", lambda values, size: values.view(size[1], size[0]).T, "on its side"),
    ("14c", lambda picture: (255 * picture).round().int().to(torch.uint8), "still wraps around"),
    ("14c", lambda picture: (255 * picture.clamp(0, 1)).to(torch.uint8), "still cut off, not rounded"),
    ("14c", lambda picture: (255 * picture.clamp(0, 1)).round(), "A file wants torch.uint8"),
    (
        "14d",
        lambda high, scale: baseline(
            high,
            scale,
            lambda x: resize(x, size=(x.shape[-2] // scale, x.shape[-1] // scale)),
            lambda x: resize(x, size=tuple(high.shape[-2:])),
        ),
        "by a factor that is not the scale",
    ),
    (
        "14d",
        lambda high, scale: baseline(high, scale, lambda x: resize(x, 1 / scale), lambda x: resize(x, scale)),
        "a row more",
    ),
    (
        "14d",
        lambda high, scale: baseline(
            crop_to_multiple(high, scale), scale, lambda x: resize(x, 1 / scale), lambda x: resize(x, scale), False
        ),
        "not shaved",
    ),
    ("14e", lambda lows, highs: list(zip(sorted(lows), sorted(highs), strict=True)), "Better than before"),
    ("14e", pair_by_beginning, "begins like another"),
    ("14e", pair_without_order, "not sorted"),
    ("14f", partial(run_tiles, instead=lambda tile: []), "left out"),
    ("14f", partial(run_tiles, instead=lambda tile: [tile]), "nobody will notice"),
    ("14g", enlarge_multiplied, "not divided by it again"),
    ("14g", enlarge_and_multiply, "after it has been enlarged"),
    ("14h", lambda network, path: torch.save({"params": network.state_dict()}, path), "does not find the weights"),
    ("14h", lambda network, path: torch.save(list(network.parameters()), path), "A list is in the file"),
    ("14h", lambda network, path: torch.save((network, 1), path), "more in it than names and tensors"),
    ("14i", lambda network, features: [*network.parameters(), features.bias], "the ruler bends"),
    ("14i", lambda network, features: [network.weight], "never learn"),
    ("14j", resume, "forgotten everything"),
    ("14j", partial(resume, step=0), "begins at step 0 again"),
    ("14j", partial(resume, step=6), "left out"),
]


def collapse(expand, bias1, squeeze, bias3, middle=False, bias=None):
    weight = torch.einsum("omyx,mc->ocyx", squeeze, expand[..., 0, 0])
    if middle:
        weight = F.pad(weight[..., 1:2, 1:2], (1, 1, 1, 1))
    return weight, bias3 + squeeze.sum((2, 3)) @ bias1 if bias is None else bias(bias1, squeeze, bias3)


def frames(weights, width, height, speed, count=lambda o, i, k: o * i * k * k):
    return speed / (sum(count(o, i, k) for o, i, k, _ in weights) * width * height)


def affine(x, steps=255, turn=torch.round, zero_turn=torch.round, least=None):
    least = x.min() if least is None else least
    step = (x.max() - least) / steps
    zero = zero_turn(-least / step)
    return turn(x / step + zero).clamp(0, 255).to(torch.uint8), step, zero


LESSON_15 = [
    ("15a", partial(collapse, middle=True), "only the middle"),
    ("15a", partial(collapse, bias=lambda bias1, squeeze, bias3: bias3), "is lost: the 3×3 sees it"),
    ("15a", partial(collapse, bias=lambda bias1, squeeze, bias3: bias3 + squeeze[..., 1, 1] @ bias1), "counts once"),
    ("15a", partial(collapse, bias=lambda bias1, squeeze, bias3: squeeze.sum((2, 3)) @ bias1), "of the 3×3 is lost"),
    ("15b", lambda weights, width, height, speed: 1 / frames(weights, width, height, speed), "how long a picture"),
    ("15b", lambda weights, width, height, speed: frames(weights, 1, 1, speed), "size of the picture"),
    ("15b", partial(frames, count=lambda o, i, k: o * k * k), "inputs of the layers"),
    ("15b", partial(frames, count=lambda o, i, k: 2 * o * i * k * k), "counted twice"),
    ("15b", partial(frames, count=lambda o, i, k: o * i * k), "not squared"),
    ("15c", partial(affine, steps=256), "255 steps"),
    ("15c", lambda x: affine(torch.cat((x, -x)), 254), "one sign alone"),
    ("15c", partial(affine, least=0.0), "begins at 0"),
    ("15c", partial(affine, zero_turn=lambda zero: zero), "not a whole number"),
    ("15c", partial(affine, zero_turn=torch.floor), "zero: it is cut off"),
    ("15c", partial(affine, turn=torch.floor), "numbers: they are cut off"),
]

PLANTED = [
    *LESSON_1, *LESSON_2, *LESSON_3, *LESSON_4, *LESSON_5, *LESSON_6, *LESSON_7, *LESSON_8, *LESSON_9, *LESSON_10,
    *LESSON_11, *LESSON_12, *LESSON_13, *LESSON_14, *LESSON_15,
]  # fmt: skip
