"""Settings by name: `adversarial.pixel_weight=1` of a command line, a table of a TOML file, a checkpoint's dictionary.

merged(settings, {"batch": 4}, "--set ")     the settings with these in place of their own
check(settings, "--set ")                    whether the values can be
listed(settings)                             {"real.first.noise.sigma": (1.0, 30.0), …}, all that the run heeds
"""

import math
import re
import tomllib
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from inspect import signature
from typing import Any, get_args, get_origin, get_type_hints

from degrade import PHOTO
from engine.entries import as_list
from engine.layouts import class_of, on_meta
from engine.losses import WINDOW
from engine.settings import ADVERSARIAL_LOSSES, NEWLY_ADVERSARIAL, NEWLY_PRESET, PIXEL_LOSSES, Adversarial, Settings
from engine.sources import OWN
from esrgan import VGG19_WIDTHS
from imaging.console import UsageError, printable
from imaging.distortions import COMPRESSIONS, KERNELS, REACH

VGG_LAYERS = {
    f"conv{block}_{number}" for block, widths in enumerate(VGG19_WIDTHS, 1) for number in range(1, len(widths) + 1)
}
LOW_HIGH = "two numbers, the lower first"


# ---------------------------------------------------------------------------------------------
# From words and dictionaries
# ---------------------------------------------------------------------------------------------


def parsed(text: str) -> Any:
    """What stands behind `name=`: a number, true or false, several with commas between, else the words themselves."""
    for form in (f"x = {text}", f"x = [{text}]"):
        try:
            values = tomllib.loads(form)
        except tomllib.TOMLDecodeError:
            continue
        if len(values) == 1:
            return values["x"]
    return text


def nested(assignments: list[str]) -> dict:
    """["a.b=1", "c=2"] → {"a": {"b": 1}, "c": 2}. Raises UsageError for what is no assignment."""
    entries: dict = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        *tables, last = name.strip().split(".")
        if not equals or not last or not text.strip():
            raise UsageError(f"--set {assignment}: write NAME=VALUE, as in --set batch=4")
        table = entries
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise UsageError(f"--set {assignment}: {part} has a value already")
        table[last] = parsed(text.strip())
    return entries


def with_usual(stored: dict) -> dict:
    """Settings as they are stored; what presets have chosen only since then is what was usual, if they do not tell."""
    stored = {name: getattr(Settings, name) for name in NEWLY_PRESET} | stored
    if isinstance(stored.get("photo", {}), dict):
        stored["photo"] = asdict(PHOTO) | stored.get("photo", {})
    if isinstance(stored.get("adversarial"), dict):
        usual = {name: getattr(Adversarial, name) for name in NEWLY_ADVERSARIAL}
        stored["adversarial"] = usual | stored["adversarial"]
    return stored


def by_dotted_names(settings: dict, prefix: str = "") -> dict:
    """Settings as they are stored, groups taken apart: {"adversarial": {"loss": …}} → {"adversarial.loss": …}."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and name not in ("shape", "layers"):
            found |= by_dotted_names(value, f"{prefix}{name}.")
        elif not (name == "adversarial" and value is None):
            found[f"{prefix}{name}"] = as_list(value)
    return found


def merged(node: Any, entries: dict, where: str, prefix: str = "") -> Any:
    """A dataclass of settings with these entries in place of its own; `where` stands before a name in an error.

    Raises UsageError for a name that there is not, and for a value of another kind.
    """
    hints, changes = get_type_hints(type(node)), {}
    for key, value in entries.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise UsageError(f"{where}{printable(name)}: is no setting{nearest(name)}")
        current = getattr(node, key)
        if key == "adversarial" and current is None:
            if value is not None:
                raise UsageError(f"{where}{name}: is for -m esrgan")
        elif is_dataclass(current):
            changes[key] = merged(current, table_of(value, name, where), where, f"{name}.")
        elif isinstance(current, dict):
            changes[key] = current | table_of(value, name, where)
        else:
            changes[key] = converted(value, hints[key], f"{where}{name}")
    return replace(node, **changes)


def table_of(value: Any, name: str, where: str) -> dict:
    """A value that must be a table."""
    if isinstance(value, dict):
        return value
    inner = [known for known in known_names() if known.startswith(f"{name}.")]
    example = inner[0] if inner else f"{name}.{'blocks' if name == 'shape' else 'conv5_4'}"
    raise UsageError(f"{where}{name}: is a table; give what is in it, such as {example}")


def converted(value: Any, hint: Any, name: str) -> Any:
    """A plain value as the kind that a setting has. Raises UsageError."""
    kinds = get_args(hint)
    if get_origin(hint) is tuple or hint is list:
        of = kinds[0] if kinds else int
        values = list(value) if isinstance(value, (list, tuple)) else [value]
        if Ellipsis not in kinds and kinds and len(values) != len(kinds):
            raise UsageError(f"{name}: is {said(value)}, not {LOW_HIGH}")
        items = [converted(item, of, name) for item in values]
        return items if hint is list else tuple(items)
    is_whole = type(value) is int or (type(value) is float and value.is_integer())
    if hint is int and is_whole:
        return int(value)
    if hint is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if hint in (bool, str) and type(value) is hint:
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[hint]
    raise UsageError(f"{name}: is {said(value)}, not {wanted}")


def said(value: Any) -> str:
    """A value as it stands in an error."""
    return printable(",".join(map(str, value)) if isinstance(value, (list, tuple)) else value)


def known_names(node: Any = None, prefix: str = "") -> list[str]:
    """The dotted names of all settings."""
    node, names = node or Settings(adversarial=Adversarial()), []
    for field in fields(node):
        value = getattr(node, field.name)
        names += known_names(value, f"{prefix}{field.name}.") if is_dataclass(value) else [f"{prefix}{field.name}"]
    return names


def nearest(name: str) -> str:
    """The name that was probably meant."""
    known = known_names()
    last = {one.rsplit(".", 1)[-1]: one for one in reversed(known)}
    found = get_close_matches(name, known, 1) or [
        last[one] for one in get_close_matches(name.rsplit(".", 1)[-1], last, 1)
    ]
    return f"; did you mean {found[0]}?" if found else ": `python main.py info FILE` lists those of a run"


# ---------------------------------------------------------------------------------------------
# What values can be
# ---------------------------------------------------------------------------------------------


def within(least: float, most: float):
    """Whether two numbers lie in a range, the lower first."""
    return lambda pair: least <= pair[0] <= pair[1] <= most


def shares(count: int):
    """Whether it is so many shares."""
    return lambda values: len(values) == count and min(values) >= 0 and sum(values) > 0


COUNT = (lambda value: value >= 1, "a whole number from 1 up")
TINY, HUGE = 1e-6, 1e6
# The names of settings, as regular expressions, with what their values must be. The first that fits counts.
CHECKS = {
    r"batch|patch|accumulate|adversarial\.(features|\w+_every)": COUNT,
    r"warm_up|seed|adversarial\.head_start": (lambda value: 0 <= value < 2**63, "a whole number from 0 up"),
    r"learning_rate|adversarial\.discriminator_rate": (lambda value: value > 0, "a number above 0"),
    r"clip|gradient_weight|adversarial\.(\w+_weight|discriminator_waits)": (
        lambda value: value >= 0, "a number from 0 up"
    ),
    r"beta2|ema": (lambda value: 0 <= value < 1, "a number from 0 to under 1"),
    r"mild|.*\.(probability|sinc|up|down|clean|grey|sharpened|gaussian)": (
        lambda value: 0 <= value <= 1, "a share, from 0 to 1"
    ),
    r"milestones": (lambda value: all(0 <= one < 2**63 for one in value), "steps, whole numbers from 0 up"),
    r"pixel_loss": (lambda value: value in PIXEL_LOSSES, f"one of {', '.join(PIXEL_LOSSES)}"),
    r"precision": (lambda value: value in ("fp32", "bf16", "fp16"), "fp32, bf16 or fp16"),
    r"adversarial\.loss": (lambda value: value in ADVERSARIAL_LOSSES, f"one of {', '.join(ADVERSARIAL_LOSSES)}"),
    r"adversarial\.discriminator": (lambda value: value in ("vgg", "unet"), "vgg or unet"),
    r"adversarial\.normalisation": (lambda value: value in ("batch", "spectral"), "batch or spectral"),
    r"adversarial\.layers": (
        lambda value: value.keys() <= VGG_LAYERS
        and all(type(weight) in (int, float) and 0 <= weight < HUGE for weight in value.values())
        and any(value.values()),
        "weights from 0 up by the names of VGG19's layers, conv1_1 to conv5_4",
    ),
    r".*\.quality": (within(1, 100), f"{LOW_HIGH}, from 1 to 100"),
    r".*(blur|final_sinc)\.sigma|.*\.radius": (within(TINY, HUGE), f"{LOW_HIGH}, above 0"),
    r".*\.(sigma|strength|amount)": (within(0, HUGE), f"{LOW_HIGH}, from 0 up"),
    r".*\.factors": (lambda pair: 0.01 <= pair[0] <= 1 <= pair[1] <= 8, "from at least 0.01 to 1 to at most 8"),
    r".*\.beta_\w+": (lambda pair: TINY <= pair[0] <= 1 <= pair[1] < HUGE, f"{LOW_HIGH}, with 1 between them"),
    r".*\.min_cutoff": (lambda pair: all(0 < one <= math.pi for one in pair), "two numbers above 0, up to π"),
    r".*\.sizes": (
        lambda sizes: bool(sizes) and all(one % 2 and 1 <= one <= 2 * REACH + 1 for one in sizes),
        f"odd whole numbers from 1 to {2 * REACH + 1}",
    ),
    r".*\.shares": (shares(len(KERNELS) - 2), f"{len(KERNELS) - 2} shares from 0 up"),
    r".*\.compression": (shares(len(COMPRESSIONS)), f"{len(COMPRESSIONS)} shares from 0 up"),
}  # fmt: skip


def check(settings: Settings, where: str) -> None:
    """Raises UsageError for values that no run can have, by themselves or together."""
    for name, value in flat(settings).items():
        fits, wanted = next((CHECKS[key] for key in CHECKS if re.fullmatch(key, name)), (None, ""))
        if fits and not fits(value):
            raise UsageError(f"{where}{name}: is {said(value)}, not {wanted}")
    for name, value in flat(settings).items():
        if name.endswith("resize.up") and value + flat(settings)[f"{name[:-2]}down"] > 1 + TINY:
            raise UsageError(f"{where}{name}: and {name[:-2]}down are more than 1 together")
    check_shape(settings, where)


def check_shape(settings: Settings, where: str) -> None:
    """Raises UsageError for a network that there cannot be, and for patches that it or the discriminator cannot use."""
    known = signature(class_of(settings.model, settings.shape)).parameters
    for name in settings.shape:
        if name not in known:
            raise UsageError(f"{where}shape.{printable(name)}: {settings.model} has none, only {', '.join(known)}")
    try:
        network = on_meta(settings.model, settings.shape)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"{where}shape: no network can be {printable(settings.shape, 100)}") from error
    if not network.luma and network.scale != settings.scale:
        raise UsageError(f"{where}shape.scale: is {network.scale}, where the run is for ×{settings.scale}")
    if network.luma and settings.patch <= 2 * network.radius:
        raise UsageError(f"{where}patch: {settings.patch} leaves nothing: the network sees {network.radius} pixels far")
    least = {"vgg": 32, "unet": 8}
    if adversarial := settings.adversarial:
        side = settings.patch * settings.scale
        if side < least[adversarial.discriminator]:
            raise UsageError(
                f"{where}patch: {settings.patch} are {side} pixels for the discriminator "
                f"({adversarial.discriminator}), which needs {least[adversarial.discriminator]}"
            )
        if adversarial.spectrum_weight and side < 2 * WINDOW:
            raise UsageError(
                f"{where}patch: {settings.patch} are {side} pixels for the spectrum, which needs {2 * WINDOW}: "
                "a larger one, or adversarial.spectrum_weight=0"
            )
        batch_norm = adversarial.discriminator == "vgg" and adversarial.normalisation == "batch"
        if batch_norm and side < 64 and settings.batch == 1:  # its last layer has one value for each patch then
            raise UsageError(f"{where}batch: 1 patch of {side} pixels is too little for the batch norm of vgg: give 2")


def degrades_twice(settings: Settings) -> bool:
    """Whether some pairs of the run are made by Real-ESRGAN's second-order degradation."""
    return settings.degradation == "real" and settings.mild < 1


def degrades_once(settings: Settings) -> bool:
    """Whether some pairs of the run are made as a camera or a web site would."""
    return settings.degradation == "photo" or (settings.degradation == "real" and settings.mild > 0)


def check_heeded(entries: dict, settings: Settings, where: str) -> None:
    """Raises UsageError for settings that were named and change nothing in this run."""
    twice, once = degrades_twice(settings), degrades_once(settings)
    if "real" in entries and not twice:
        raise UsageError(f"{where}real: is for -d real where mild is under 1")
    if "mild" in entries and settings.degradation != "real":
        raise UsageError(f"{where}mild: is for -d real")
    if "eight_bits" in entries and settings.model != "ecbsr":
        raise UsageError(f"{where}eight_bits: is for -m ecbsr")
    if "photo" in entries and not once:
        raise UsageError(f"{where}photo: is for -d photo, and for -d real where mild is over 0")
    photo = entries.get("photo") or {}
    if isinstance(photo.get("noise"), dict) and "gaussian" in photo["noise"]:
        raise UsageError(f"{where}photo.noise.gaussian: changes nothing; photo.gaussian is the share of pictures")
    if "grey" in photo and settings.degradation != "photo":
        raise UsageError(f"{where}photo.grey: is for -d photo")


# ---------------------------------------------------------------------------------------------
# To words
# ---------------------------------------------------------------------------------------------


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """A dataclass of settings as values by their dotted names."""
    found: dict[str, Any] = {}
    for field in fields(node):
        value = getattr(node, field.name)
        found |= flat(value, f"{prefix}{field.name}.") if is_dataclass(value) else {f"{prefix}{field.name}": value}
    return found


def listed(settings: Settings) -> dict[str, Any]:
    """All that a run heeds of its settings, by dotted names, tables taken apart."""
    real, twice, once = settings.degradation == "real", degrades_twice(settings), degrades_once(settings)
    unheeded = {"adversarial", "photo.noise.gaussian"} | ({"mild"} if not real else set())
    unheeded |= {"photo.grey"} if real else set()
    unheeded |= {"eight_bits"} if settings.model != "ecbsr" else set()
    unheeded |= {"multiscale", "sharpen"} if settings.degradation == OWN else set()
    found: dict[str, Any] = {}
    for name, value in flat(settings).items():
        room = name.split(".")[0]
        if name in unheeded or (room == "real" and not twice) or (room == "photo" and not once):
            continue
        if isinstance(value, dict):
            found |= {f"{name}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found


def as_toml(value: Any) -> str:
    """A value as it stands in a TOML file."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)
