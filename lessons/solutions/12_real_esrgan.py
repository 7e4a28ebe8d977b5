"""Answers to the exercises of lesson 12."""

import torch
import torch.nn.functional as F


def pooled(pool, size, batch, generator):
    if len(pool) + len(batch) <= size:
        pool.extend(batch)
        return list(batch)
    places = torch.randperm(size, generator=generator)[: len(batch)].tolist()
    leaving = [pool[place] for place in places]
    for place, new in zip(places, batch, strict=True):
        pool[place] = new
    return leaving


def sharpened_like_usm(high, blur, weight, threshold):
    detail = high - blur(high)
    mask = blur((255 * detail.abs() > threshold).float())
    sharp = (high + weight * detail).clamp(0, 1)
    return mask * sharp + (1 - mask) * high


def normalised_by_stretch(weight, u):
    matrix = weight.flatten(1)
    v = F.normalize(matrix.T @ u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    return weight / (u @ matrix @ v), u
