"""Answers to the exercises of lesson 12."""

import torch
import torch.nn.functional as F


def pooled(pool, size, batch, generator):
    # while there is room, nobody has to leave
    if len(pool) + len(batch) <= size:
        pool.extend(batch)
        return list(batch)
    # without repeating: nobody leaves twice
    places = torch.randperm(size, generator=generator)[: len(batch)].tolist()
    leaving = [pool[place] for place in places]
    for place, new in zip(places, batch, strict=True):
        pool[place] = new
    return leaving


def sharpened_like_usm(high, blur, weight, threshold):
    # what the wide blur takes away
    detail = high - blur(high)
    # where it is more than noise; blurred, so that it leaves no edges of its own
    mask = blur((255 * detail.abs() > threshold).float())
    sharp = (high + weight * detail).clamp(0, 1)
    return mask * sharp + (1 - mask) * high


def normalised_by_stretch(weight, u):
    matrix = weight.flatten(1)
    # back through the matrix, then forth: the direction that is stretched most wins
    v = F.normalize(matrix.T @ u, dim=0)
    u = F.normalize(matrix @ v, dim=0)
    # σ is the stretch along the new u and v
    return weight / (u @ matrix @ v), u
