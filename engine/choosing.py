"""Which network enlarges a picture: the one that was named, else one's own, else the shipped one that suits it.

chooser = Chooser("rrdb")                     # what `-m` says, or None
chosen = chooser.for_picture(open_picture(path))
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from engine import checkpoints
from engine.checkpoints import find_latest, first_that_loads, fitting_heads, is_dated, load_checkpoint, model_name
from engine.ensembles import TOLD, Ensemble
from engine.layouts import KINDS, AnyNetwork
from engine.networks import load_network
from engine.runtimes import Runtime
from engine.weights import blend
from imaging.console import UsageError, UserError
from imaging.films import Film
from imaging.frames import Picture
from imaging.traces import PLAIN, Traces, look_at

# What ships, by name. Of networks for the same pictures the one that is nearest to the truth is first; for clean ones
# RRDB leads SRVGG by 0.2 dB and SRCNN by 1.2. For photographs SRVGG is ahead by 0.2 dB of PSNR at quality 85, and
# behind in SSIM, at lower qualities, and to the eye.
BEST_FIRST = (
    "rrdb", "srvgg", "ecbsr", "esrgan", "srcnn",
    "rrdb-photo", "srvgg-photo", "esrgan-photo", "esrgan-srvgg-photo",
    "rrdb-real", "srvgg-real", "esrgan-real", "esrgan-srvgg-real",
)  # fmt: skip

# What is preferred to look at, where no kind is named: of photographs ESRGAN's result, of drawings, of text and of what
# is degraded RRDB's (lessons/RESULTS.md, "What is preferred"). Of films the fast one's, for their pictures are many.
CRISP, FAITHFUL, FAST = "esrgan", "rrdb", "srvgg"

# From this quality on a JPEG counts as clean, and so does what shows less of JPEG's blocks. Of 14 held-out details at
# quality 98 the RRDB for photographs makes 0.1 dB less than the clean one, at 97 0.1 more, at 95 0.4, at 91 1.0; with
# ESRGAN it is 0.0, 0.3, 0.8 and 1.4. A JPEG of 98 may have been one of a lower quality: saved again at 91 three in
# five that were of 75 show more blocks than 1.2, and one in seven that was never saved before. WebP, AVIF and HEIC
# do not tell their quality: of the same details the network for photographs makes 0.3 dB more in WebP of 90 and AVIF of
# 80, and as much in WebP of 98 and AVIF of 95.
SOUND_QUALITY, SOUND_BLOCKS, SOUND_JPEG_BLOCKS = 98, 1.1, 1.2

# A JPEG of less quality and a picture with more noise count as degraded. Of JPEGs of quality 40 what the RRDB for such
# makes was preferred 14 times of 16, at 50 4 times. Of 14 details of held-out photographs and drawings it makes 0.4 dB
# more than that for photographs at quality 20, 0.1 more at 30, 0.1 less at 40 and 0.2 at 50; at a noise of σ = 12 1.3
# more, at 8 0.5 more, at 5 0.1 less.
DEGRADED_QUALITY, DEGRADED_NOISE = 45, 6.0

Finder = Callable[..., tuple[Path, dict] | None]  # find_trained, or find_shipped where one's own are kept aside

# Where no network was trained on what a picture has been through, the next best thing to have been trained on.
INSTEAD = {"real": "photo"}


@dataclass(frozen=True)
class Chosen:
    """A network ready to use, the checkpoint that it is from, and a line that says which it is and why."""

    network: AnyNetwork
    checkpoint: dict
    told: str
    ships: bool = False  # of its kind what ships was taken, and for another picture another may suit


# ---------------------------------------------------------------------------------------------
# What is there
# ---------------------------------------------------------------------------------------------


def rank(checkpoint: dict) -> int:
    """Its place in BEST_FIRST; behind all where it has none."""
    name = model_name(checkpoint)
    return BEST_FIRST.index(name) if name in BEST_FIRST else len(BEST_FIRST)


def find_shipped(**wanted) -> tuple[Path, dict] | None:
    """The best checkpoint that came with the program and is as `wanted`.

    Of its scales the largest: a result that is too large is easier to mend than one that is too small.
    """
    found = fitting_heads(checkpoints.PRETRAINED, wanted)
    return first_that_loads(sorted(found, key=lambda pair: (rank(pair[1]), -pair[1]["scale"])))


def find_trained(**wanted) -> tuple[Path, dict] | None:
    """The newest checkpoint in models/ that is as `wanted` and has been measured, else the best that ships."""
    return find_latest(checkpoints.MODELS, measured=True, **wanted) or find_shipped(**wanted)


def names_what_ships(model: str | None) -> bool:
    """Whether `-m` names the folder of all that ships, and so leaves the choice to the picture whatever is trained.

    From elsewhere too it may be called as in the program's own folder: models/pretrained.
    """
    if model is None:
        return False
    as_at_home = Path(*checkpoints.PRETRAINED.parts[-2:])
    path = checkpoints.PRETRAINED if Path(model) == as_at_home and not as_at_home.exists() else Path(model)
    return path.resolve() == checkpoints.PRETRAINED.resolve()


def better_ships(checkpoint: dict) -> bool:
    """Whether a network for the same pictures and scale ships that is nearer to the truth.

    ESRGAN is after something else than the truth: to its owners nothing is better.
    """
    found = find_shipped(scale=checkpoint["scale"], degradation=checkpoint["degradation"])
    return found is not None and checkpoint["model"] != "esrgan" and rank(found[1]) < rank(checkpoint)


def as_typed(path: Path) -> str:
    """The shortest path from here, with slashes, which every system takes."""
    return (path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path).as_posix()


# ---------------------------------------------------------------------------------------------
# What was named
# ---------------------------------------------------------------------------------------------


def choose_checkpoint(
    model: str | None, scale: int | None = None, degradation: str | None = None, find: Finder = find_trained
) -> tuple[Path, dict] | None:
    """What `-m` names: a kind of network, a file, or a folder, of which the newest is taken.

    Without it what is found among one's own and what ships. Of a kind, rather one that was trained on this degradation.
    None if there is none. Raises UserError for a file that cannot be used.
    """
    if model is not None and Path(model).is_dir() and model not in KINDS:  # of a run that was given a name
        found = find_latest(Path(model), measured=True, **({"scale": scale} if scale else {}))
        if found is None:
            raise UsageError(f"-m {model}: no finished epoch of any training in this folder")
        return found
    if model is not None and model not in KINDS:
        return Path(model), load_checkpoint(model)
    wanted = {"model": model, "scale": scale}
    wanted = {name: value for name, value in wanted.items() if value is not None}
    like = {"degradation": degradation} if degradation else {}
    return find(**wanted, **like) or find(**wanted)


def mixed_with(path: Path, checkpoint: dict, other_path: Path, alpha: float) -> dict:
    """A checkpoint with α of its own weights and 1 − α of another's. Raises UserError for networks that are unlike."""
    other = load_checkpoint(other_path)
    if checkpoint["scale"] != other["scale"]:
        raise UserError(f"{path} and {other_path} enlarge ×{checkpoint['scale']} and ×{other['scale']}")
    try:
        return {**checkpoint, "params": blend(checkpoint["params"], other["params"], alpha)}
    except UsageError:
        raise
    except UserError as error:
        raise UserError(f"--blend {other_path}: is no network like {path}: {error}") from error


def choose_network(
    model: str | None, other_path: Path | None = None, alpha: float | None = None, scale: int | None = None,
    degradation: str | None = None, why: str = "", find: Finder = find_trained,
) -> Chosen | None:  # fmt: skip
    """The network that `-m`, `--blend` and `--alpha` name, else as `choose_checkpoint`; `why` it suits, if so.

    Of what ships the best, where `-m` names the folder of that.
    None if there is none. Raises UserError, UsageError.
    """
    if alpha is not None and not other_path:
        raise UsageError("--alpha: is the share in a mixture; give the other network with --blend")
    if names_what_ships(model):
        model, find = None, find_shipped
    found = choose_checkpoint(model, scale, degradation, find)
    if found is None:
        if other_path:
            raise UsageError("--blend: there is no network yet to blend with; give one with -m FILE")
        return None
    path, checkpoint = found
    came_along = path.resolve().parent == checkpoints.PRETRAINED.resolve()
    told = f"{as_typed(path)} ({model_name(checkpoint)} ×{checkpoint['scale']}"
    if other_path:
        alpha = 0.5 if alpha is None else alpha
        checkpoint = mixed_with(path, checkpoint, other_path, alpha)
        told += f", {alpha:g} of it and {1 - alpha:g} of {other_path}"
    if why and checkpoint["degradation"] == degradation:
        told += f"; {why}"
    elif model is None and came_along and find is find_trained:
        told += "; none that fits is trained yet: this one ships"
    elif model is None and not came_along and not other_path and better_ships(checkpoint):
        told += f"; a better one ships: -m {as_typed(checkpoints.PRETRAINED)}"
    network = load_network(checkpoint)
    if other_path:
        checkpoint = {**checkpoint, "tag": weights_tag(f"blend{100 * (alpha or 0):.0f}", network)}
    elif not came_along:
        checkpoint = {**checkpoint, "tag": weights_tag("" if is_dated(path) else path.stem, network)}
    by_kind = not other_path and (model is None or model in KINDS)
    return Chosen(network, checkpoint, f"{told})", came_along and by_kind)


def as_ensemble(chosen: Chosen) -> Chosen:
    """The same network in all eight flips and turns, which the line and the names of results tell."""
    tag = f"{chosen.checkpoint['tag']}-ensemble" if chosen.checkpoint.get("tag") else "ensemble"
    network = cast(AnyNetwork, Ensemble(chosen.network).eval())
    return replace(chosen, network=network, checkpoint={**chosen.checkpoint, "tag": tag}, told=f"{chosen.told}, {TOLD}")


def as_used(chosen: Chosen, runtime: Runtime, ensemble: bool) -> Chosen:
    """The network where it is computed, in all flips and turns if so asked."""
    by = ", by OpenVINO" if runtime.is_openvino(chosen.network) else ""
    chosen = replace(chosen, network=runtime.ready(chosen.network), told=chosen.told + by)
    return as_ensemble(chosen) if ensemble else chosen


def weights_digest(network: AnyNetwork) -> str:
    """A hash of a network's weights."""
    digest = hashlib.sha256()
    for weights in network.state_dict().values():
        digest.update(weights.cpu().numpy().tobytes())
    return digest.hexdigest()


def weights_tag(word: str, network: AnyNetwork) -> str:
    """What tells a network from others of its kind in names of results: a word for it, and a hash of its weights."""
    word = re.sub(r"[^\w+-]+", "-", word, flags=re.ASCII)[:20].strip("-")
    return f"{word}-{weights_digest(network)[:6]}".lstrip("-")


# ---------------------------------------------------------------------------------------------
# What suits
# ---------------------------------------------------------------------------------------------


def suiting(traces: Traces) -> tuple[str, str]:
    """The degradation whose networks suit a picture, and why.

    Networks that learnt from clean pictures sharpen the blocks and rings of JPEG into cracks and dots, and noise into
    worms; those that learnt from photographs as they are blur a little what is clean. With noise of σ = 3 of 255 the
    network for photographs is ahead by 0.6 dB, with 5 by 1.7; without it is behind by 0.7. What is degraded needs
    a network that has seen worse still, and wipes away a little of what is better.
    """
    if traces.quality is not None:
        return suiting_jpeg(traces, traces.quality)
    if traces.lossy:
        return suiting_noise(traces.noise), "a lossy file"
    if traces.drawn:  # lines and dots may lie as blocks and noise do
        return "bicubic", "a drawing of few colours"
    if traces.noise:
        return suiting_noise(traces.noise), "a picture with noise"
    if traces.blocks > SOUND_BLOCKS:
        return "photo", "a picture with the blocks of JPEG"
    return "bicubic", "a picture without traces of JPEG"


def suiting_jpeg(traces: Traces, quality: int) -> tuple[str, str]:
    """The same for a JPEG, whose file tells its quality."""
    why = f"a JPEG of quality {quality}"
    if quality < DEGRADED_QUALITY:
        return "real", why
    if traces.noise:
        return suiting_noise(traces.noise), f"{why} with noise"
    if quality < SOUND_QUALITY:
        return "photo", why
    if traces.blocks > SOUND_JPEG_BLOCKS:
        return "photo", f"{why} with the blocks of an earlier one"
    return "bicubic", why


def suiting_noise(noise: float) -> str:
    """The degradation whose networks suit noise of this σ."""
    return "real" if noise > DEGRADED_NOISE else "photo"


def preferred(traces: Traces) -> tuple[str, str, str]:
    """The kind of network whose results are preferred to look at, for which degradation, and why.

    Of a sound photograph ESRGAN for clean pictures makes a little more, but grit and hatching of noise too faint to be
    found; the one for photographs does not.
    """
    degradation, why = suiting(traces)
    if degradation == "real":
        return FAITHFUL, degradation, why
    has_all = traces.quality is None and not traces.lossy
    if has_all and (traces.drawn or traces.plain > PLAIN):
        return FAITHFUL, degradation, "a drawing or text" if degradation == "bicubic" else why
    if degradation == "bicubic" and has_all:
        why = "a picture without plain areas"
    return CRISP, "photo", why


class Chooser:
    """The network for each picture: `model`, `other` and `alpha` are what `-m`, `--blend` and `--alpha` say.

    With `ensemble` each is run in all flips and turns. A file, a mixture and one's own network are for all pictures. Of
    what ships, each gets what suits it, of the kind that was named if one was; the folder of what ships as a name keeps
    one's own aside. Each is loaded once, and told once by `tell`. Raises UsageError, UserError.
    """

    def __init__(
        self, model: str | None, other: Path | None = None, alpha: float | None = None,
        runtime: Runtime | None = None, tell=print, ensemble: bool = False,
    ):  # fmt: skip
        self.model, self.find = (None, find_shipped) if names_what_ships(model) else (model, find_trained)
        chosen = choose_network(self.model, other, alpha, find=self.find)
        self.runtime, self.tell, self.ensemble = runtime or Runtime(), tell, ensemble
        self.chosen: dict[tuple[str | None, str], Chosen] = {}  # by kind and degradation
        self.fixed = None if chosen and chosen.ships else self.ready(chosen)

    def for_picture(self, picture: Picture) -> Chosen:
        """The network that enlarges it, ready to use."""
        if self.fixed:
            return self.fixed
        traces = look_at(picture)
        model: str | None
        model, degradation, why = preferred(traces)
        if not self.prefers(model, degradation):
            model, (degradation, why) = self.model, suiting(traces)
        return self.suited(model, degradation, f"suits {why}")

    def for_film(self, film: Film) -> Chosen:
        """The network that enlarges all pictures of a film, ready to use.

        There are so many that the fast SRVGG takes hours where RRDB takes days: it comes first.
        """
        degradation, why = ("bicubic", "a film stored without loss") if film.lossless else ("photo", "a film")
        kind = FAST if self.prefers(FAST, degradation) else self.model
        return self.suited(kind, degradation, f"suits {why}")

    def prefers(self, kind: str, degradation: str) -> bool:
        """Whether no kind was named, and of this one a network for this degradation ships."""
        if self.model is not None:
            return False
        return (kind, degradation) in self.chosen or find_shipped(model=kind, degradation=degradation) is not None

    def suited(self, model: str | None, degradation: str, why: str) -> Chosen:
        """Of what ships the network of this kind for this degradation, else for what is INSTEAD of it, else any."""
        if (model, degradation) not in self.chosen:
            chosen = choose_network(model, degradation=degradation, why=why, find=self.find)
            found = chosen.checkpoint["degradation"] if chosen else degradation
            if found == degradation:
                self.chosen[model, degradation] = self.ready(chosen)
            elif degradation in INSTEAD:
                self.chosen[model, degradation] = self.suited(model, INSTEAD[degradation], why)
            else:
                self.chosen[model, degradation] = self.suited(model, found, f"none of its kind {why}")
        return self.chosen[model, degradation]

    def ready(self, chosen: Chosen | None) -> Chosen:
        """Told, and where it is computed."""
        if chosen is None:
            name = f" -m {self.model}" if self.model else ""
            raise UsageError(f"no such network yet: `python main.py train{name} -e 20` trains one")
        chosen = as_used(chosen, self.runtime, self.ensemble)
        self.tell(f"network: {chosen.told}")
        return chosen
