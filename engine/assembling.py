"""The settings of a run, put together from a preset and what the command line says."""

import argparse
from dataclasses import replace

from engine.devices import choose_precision
from engine.settings import preset
from imaging.console import UsageError
from srcnn import KERNELS


def chosen_settings(options: argparse.Namespace, device):
    """The preset of the model with what the command line says in its place."""
    refuse_misplaced(options)
    model, scale = options.model, options.scale or (2 if options.model == "srcnn" else 4)
    settings = preset(model, scale, options.paper, options.degradation, options.generator)
    shape = dict(settings.shape)
    for name in ("kernels", "blocks", "features", "growth", "convolutions"):
        if (value := getattr(options, name)) is not None:
            if name not in shape:
                raise UsageError(f"--{name}: {model} has none")
            shape[name] = list(KERNELS[value]) if name == "kernels" else value
    adversarial = {"perceptual": options.perceptual, "adversarial_weight": options.gan_weight}
    adversarial = {name: value for name, value in adversarial.items() if value is not None}
    if settings.adversarial:
        settings = replace(settings, adversarial=replace(settings.adversarial, **adversarial))
    elif adversarial:
        raise UsageError("--perceptual and --gan-weight: are for -m esrgan")
    precision = choose_precision(options.precision, device)
    settings = replace(settings, shape=shape, precision=precision, accumulate=options.accumulate)
    settings = replace(settings, clip=options.clip, seed=options.seed)
    given = {name: getattr(options, name) for name in ("batch", "learning_rate") if getattr(options, name) is not None}
    return replace(settings, **given)


def refuse_misplaced(options: argparse.Namespace) -> None:
    """Raise UsageError for flags that do not go with the model."""
    model, generator = options.model, options.generator or options.model
    if generator in ("rrdb", "esrgan") and options.scale not in (None, 2, 4, 8):
        raise UsageError(f"-s {options.scale}: {model} enlarges by 2, 4 or 8")
    if options.generator and model != "esrgan":
        raise UsageError("--generator: is for -m esrgan")
    if options.paper and generator not in ("rrdb", "esrgan"):
        raise UsageError(f"--paper: {generator} has no such preset, only rrdb and esrgan")
