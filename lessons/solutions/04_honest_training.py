"""Answers to the exercises of lesson 4."""

import math

import torch


def split(names, held_out_count, seed):
    photographs = sorted(set(names))
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = {photographs[index] for index in order[:held_out_count]}
    training = [index for index, name in enumerate(names) if name not in chosen]
    return training, [index for index, name in enumerate(names) if name in chosen]


def cosine_rate(step, steps, learning_rate):
    return learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def best_guess(plausible, loss):
    return plausible.mean() if loss == "L2" else plausible.median()


def mean_of_batches(batches):
    return torch.cat(batches).mean()
