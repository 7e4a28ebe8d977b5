"""The settings of a run, put together: a preset, then a file of settings, then flags, then `--set`, the last word.

The network's shape is that of the file that the run starts from or goes on with, where one is named.
"""

import argparse
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.checkpoints import load_checkpoint, read_head
from engine.devices import choose_precision
from engine.discriminators import described, load_discriminator, read_discriminator
from engine.entries import with_new_names
from engine.flags import DEGRADATIONS, MODELS
from engine.layouts import generator_of
from engine.overrides import by_dotted_names, check, check_heeded, merged, nested, with_usual
from engine.settings import Adversarial, Settings, preset
from engine.starting import UNTRAINED
from imaging.console import UsageError, UserError, printable
from srcnn import KERNELS

SHAPE_FLAGS = ("kernels", "blocks", "features", "growth", "convolutions")
# What decides which preset a run begins with; `--set` has no business there, for these have flags.
KIND = {"model": "-m", "scale": "-s", "degradation": "-d"}


def chosen_settings(options: argparse.Namespace, device) -> Settings:
    """The settings of the run that the command line asks for. Raises UsageError for what cannot be."""
    told = told_by_file(options)
    start = read_head(options.start) if options.start not in (None, UNTRAINED) else None
    settings = with_shape(base_preset(options, told, start), options, told, start)
    if told:
        where = f"{options.resume or options.settings}: "
        rest = {name: value for name, value in told.items() if name not in (*KIND, "shape")}
        settings = merged(settings, rest, where)
        if not is_checkpoint(options.resume or options.settings):
            check_heeded(rest, settings, where)
        check(settings, where)
    settings = with_discriminator(with_flags(settings, options, device), options)
    check(settings, "")
    if options.set:
        entries = nested(options.set)
        if kind := KIND.keys() & entries.keys():
            name = min(kind)
            raise UsageError(f"--set {name}: give {KIND[name]}")
        settings = merged(settings, entries, "--set ")
        check_heeded(entries, settings, "--set ")
        check(settings, "--set ")
    choose_precision(settings.precision, device)
    if start:
        refuse_another_shape(options.start, start, settings)
    if options.discriminator_from:
        found = load_discriminator(options.discriminator_from, settings)[0]
        if found != settings.adversarial:
            raise UsageError(f"--discriminator-from {options.discriminator_from}: --set asks for another kind or width")
    if not options.val and (settings.choose_by_val or options.val_pictures):
        raise UsageError("--choose-by-val and --val-pictures: name the pictures by --val")
    return settings


def with_discriminator(settings: Settings, options: argparse.Namespace) -> Settings:
    """The kind and the width of the discriminator whose weights the run starts from."""
    if not options.discriminator_from:
        return settings
    if options.resume or not settings.adversarial:
        raise UsageError("--discriminator-from: is for a new run of -m esrgan")
    return replace(
        settings, adversarial=described(read_discriminator(options.discriminator_from), settings.adversarial)
    )


def named_settings(options: argparse.Namespace) -> set[str]:
    """The settings that were named, by dotted names, which an unfinished run does not keep as they were."""
    named = {name for name in ("epochs", "learning_rate") if getattr(options, name) is not None}
    if options.settings and not is_checkpoint(options.settings):
        named |= by_dotted_names(told_by_file(options)).keys()
    return named | by_dotted_names(nested(options.set or [])).keys()


# ---------------------------------------------------------------------------------------------
# Files of settings
# ---------------------------------------------------------------------------------------------


def is_checkpoint(path: Path) -> bool:
    """Whether a file of settings is a network's, not a text."""
    return path.suffix.lower() != ".toml"


def told_by_file(options: argparse.Namespace) -> dict[str, Any]:
    """What `--settings`, or the checkpoint of `--resume`, says: tables in tables. Nothing where neither is given."""
    path = options.resume or options.settings
    if options.resume:
        for flag, given in (("--from", options.start), ("-n", options.new), ("--settings", options.settings)):
            if given:
                raise UsageError(f"--resume: goes on with a run; {flag} does not go with it")
    if path is None:
        return {}
    if is_checkpoint(path):
        return remembered(path)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: cannot be read as TOML ({printable(error)})") from error


def remembered(path: Path) -> dict[str, Any]:
    """The settings that a checkpoint was trained with, by their names of today."""
    training = load_checkpoint(path).get("training")
    if not isinstance(training, dict) or not isinstance(training.get("settings"), dict):
        raise UsageError(f"{path}: holds weights and no run; --from starts a new one from them")
    entries = with_new_names(training["settings"])
    if isinstance(entries.get("adversarial"), dict):
        entries["adversarial"] = with_new_names(entries["adversarial"])
    return with_usual(entries)


def settings_of(entries: dict[str, Any], where: str) -> Settings:
    """The settings that a checkpoint remembers, of this version or an older one, which had fewer."""
    start = Settings(adversarial=Adversarial() if entries.get("adversarial") else None)
    start = replace(start, shape={})
    return merged(start, entries, where)


# ---------------------------------------------------------------------------------------------
# Preset and shape
# ---------------------------------------------------------------------------------------------


def base_preset(options: argparse.Namespace, told: dict[str, Any], start: dict | None) -> Settings:
    """The preset of the network, scale and degradation that are asked for."""
    model = options.model or told.get("model") or (start["model"] if start else "srcnn")
    if "model" in told and told["model"] != model:
        raise UsageError(f"{options.resume or options.settings}: is for -m {printable(told['model'])}, not {model}")
    generator = options.generator
    if model == "esrgan" and not generator:
        shape = told.get("shape") or (start["shape"] if start else {})
        generator = generator_of("esrgan", shape if isinstance(shape, dict) else {})
    refuse_misplaced(options, model, generator or model)
    scale = options.scale or told.get("scale") or (start["scale"] if start else (2 if model == "srcnn" else 4))
    degradation = options.degradation or told.get("degradation") or "bicubic"
    if model not in MODELS:
        raise UsageError(f"{options.settings}: model: is {printable(model)}, which cannot be trained here")
    if type(scale) is not int or not 1 <= scale <= 16:
        raise UsageError(f"{options.settings}: scale: is {printable(scale)}, not a whole number from 1 to 16")
    if degradation not in DEGRADATIONS and options.resume:  # of pairs that somebody made: the data will say so again
        degradation = "bicubic"
    if degradation not in DEGRADATIONS:
        raise UsageError(f"{options.settings}: degradation: is {printable(degradation)}, not {', '.join(DEGRADATIONS)}")
    return preset(model, scale, options.paper, degradation, generator)


def with_shape(settings: Settings, options: argparse.Namespace, told: dict[str, Any], start: dict | None) -> Settings:
    """The shape of the network that the run starts from, that of the file of settings, and what flags say of it."""
    shape = dict(settings.shape)
    if start and generator_of(start["model"], start["shape"]) == generator_of(settings.model, shape):
        shape = rescaled(start["shape"], settings.scale)
    if "shape" in told:
        if not isinstance(told["shape"], dict):
            raise UsageError(f"{options.settings}: shape: is a table, such as shape.blocks = 6")
        shape = rescaled({**shape, **told["shape"]}, settings.scale)
    for name in SHAPE_FLAGS:
        if (value := getattr(options, name)) is not None:
            if name not in shape:
                raise UsageError(f"--{name}: {settings.model} has none")
            shape[name] = list(KERNELS[value]) if name == "kernels" else value
    return replace(settings, shape=shape)


def rescaled(shape: dict, scale: int) -> dict:
    """The same shape for another scale; squares that become channels are for ×1 and ×2 alone."""
    if "scale" not in shape:  # on luma, which is enlarged beforehand
        return shape
    changed = {**shape, "scale": scale}
    return changed | {"unshuffle": False} if changed.get("unshuffle") and scale > 2 else changed


def refuse_another_shape(path: Path, start: dict, settings: Settings) -> None:
    """Raises UsageError where a run would start from weights of another network; another scale is none."""
    kinds = generator_of(start["model"], start["shape"]), generator_of(settings.model, settings.shape)
    if kinds[0] != kinds[1]:
        model = f"-m {kinds[0]}" if settings.model != "esrgan" else f"--generator {kinds[0]}"
        raise UsageError(f"--from {path}: is a network of the kind {kinds[0]}, not {kinds[1]}: give {model}")
    if rescaled(start["shape"], settings.scale) != settings.shape:
        raise UsageError(f"--from {path}: is {start['shape']}, not {settings.shape}")


# ---------------------------------------------------------------------------------------------
# Flags
# ---------------------------------------------------------------------------------------------


def with_flags(settings: Settings, options: argparse.Namespace, device) -> Settings:
    """What flags say in the place of what preset and file do."""
    adversarial = {"perceptual": options.perceptual, "adversarial_weight": options.gan_weight}
    adversarial = {name: value for name, value in adversarial.items() if value is not None}
    if settings.adversarial:
        settings = replace(settings, adversarial=replace(settings.adversarial, **adversarial))
    elif adversarial:
        raise UsageError("--perceptual and --gan-weight: are for -m esrgan")
    names = ("batch", "accumulate", "clip", "learning_rate", "seed")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    given |= {"choose_by_val": True} if options.choose_by_val else {}
    wanted = options.precision
    if wanted == "auto" and options.settings and not is_checkpoint(options.settings):
        wanted = told_by_file(options).get("precision", "auto")
    return replace(settings, precision=choose_precision(wanted, device), **given)


def refuse_misplaced(options: argparse.Namespace, model: str, generator: str) -> None:
    """Raise UsageError for flags that do not go with the model."""
    if generator in ("rrdb", "esrgan") and options.scale not in (None, 2, 4, 8):
        raise UsageError(f"-s {options.scale}: {model} enlarges by 2, 4 or 8")
    if options.generator and model != "esrgan":
        raise UsageError("--generator: is for -m esrgan")
    if options.paper and generator not in ("rrdb", "esrgan"):
        raise UsageError(f"--paper: {generator} has no such preset, only rrdb and esrgan")
