"""Answers to the exercises of lesson 4."""

import math

import torch


def split(names, held_out_count, seed):
    # sorted: a set has another order in every run
    photographs = sorted(set(names))
    # a generator of its own, so that nobody else's random numbers matter
    order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed)).tolist()
    # photographs are chosen, and patches follow
    chosen = {photographs[index] for index in order[:held_out_count]}
    training = [index for index, name in enumerate(names) if name not in chosen]
    return training, [index for index, name in enumerate(names) if name in chosen]


def cosine_rate(step, steps, learning_rate):
    # half a wave, from 1 to −1, brought to 1 … 0
    return learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def best_guess(plausible, loss):
    # the mean makes squares least, the median absolute differences
    return plausible.mean() if loss == "L2" else plausible.median()


def mean_of_batches(batches):
    # every picture counts once, in whichever batch it came
    return torch.cat(batches).mean()
