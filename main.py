"""The command line: train · upscale · evaluate · export.

    python main.py train -e 20           # SRCNN ×2 on the photographs in images_raw/
    python main.py upscale -i img.jpg    # with the newest network in models/
    python main.py evaluate -i DIR       # PSNR and SSIM beside bicubic
    python main.py export -o srcnn.onnx  # for other programs

Only flags and words are here; the work is done by the other modules.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has an older one should be told, not shown a traceback)
    sys.exit("error: needs Python 3.11 or newer; see Start in README.md")

import argparse
import json
from pathlib import Path

# torch is imported inside the commands, so that --help answers at once.
from engine import exporting
from imaging import console
from imaging.console import Parser, run_command

MODELS = ("srcnn", "rrdb", "esrgan", "srvgg", "ecbsr")
DEFAULT_SAMPLES = 5000  # 20 epochs over them take about two minutes on two CPU cores with bf16

TRAIN_HELP = """\
Train a network. An unfinished run of the same model, scale, degradation and shape is resumed first; a finished one
gets -e more epochs, in a new file. Ctrl-C saves and stops.

  srcnn    three convolutions that sharpen the luma of a picture enlarged by bicubic interpolation
  rrdb     ESRGAN's generator, stage one: it learns to give the right pixels, and where it cannot know them,
           the average of all that could be right, which is blurred
  srvgg    Real-ESRGAN's small and fast generator, stage one
  ecbsr    ten thousand weights that enlarge luma, for phones and browsers: it learns in branches and is used folded
  esrgan   stage two, from the latest rrdb, or srvgg with --generator srvgg: it learns to look right, to a network that
           knows pictures (VGG19) and to a discriminator that learns beside it to tell restored pictures from real ones

-d says how the low-quality pictures of the training are made. Runs of one degradation never mix with another's.

  bicubic  only shrunk, as in the published tables
  photo    as a camera or a web site makes them: a little blurred, sharpened or noisy, and most of them JPEG
  real     Real-ESRGAN's second-order degradation: blurred, noisy and compressed, and all that twice; three in ten as
           in photo, none with --paper. rrdb is then Real-ESRNet, esrgan is Real-ESRGAN

On photo and real a network starts from the latest of its kind on bicubic pictures, if there is one; esrgan from the
latest of its generator on the same degradation.

An epoch is one pass over ready-cut samples; over photographs it is 250 updates. Without -i, srcnn uses the newest
samples, samples_gen_64/ or samples_gen_32/, cut from images_raw/ if there are none; the others use images_raw/ itself.
A tenth of the photographs, ten at most, is held out. PSNR is measured on them, and the weights that do best there are
kept; of esrgan those that are nearest to the real picture in VGG19's features.
"""
UPSCALE_HELP = """\
Enlarge pictures of any kind and size. Without -m the newest checkpoint in models/ is used, else the best network that
came with the program: the first line says which. Results go to images_upscaled/NAME.xS.MODEL.DATE.png; a tag after
MODEL says which weights, unless they came with the program. Of a folder the structure is kept. Depth, transparency,
colour profile, resolution, EXIF, XMP and comments are those of the picture; animations stay such (.gif, .webp or .png).
"""
EVALUATE_HELP = """\
Measure PSNR and SSIM on sharp pictures: each is cropped, shrunk, enlarged again and compared, beside bicubic. With
-d photo or real each is degraded 20 times, by draws that --seed decides, and the figures are means over them. Files of
grey are measured on their own values, and a network that does not enlarge stands beside its input.
"""


def build_parser() -> argparse.ArgumentParser:
    """Every flag of every command; one flag has one meaning everywhere."""
    parser = Parser(
        prog="main.py",
        description="Super-resolution, from SRCNN to ESRGAN: train a network, enlarge pictures, measure.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter
    train = commands.add_parser("train", help="train a network", description=TRAIN_HELP, formatter_class=raw)
    upscale = commands.add_parser("upscale", help="enlarge pictures", description=UPSCALE_HELP, formatter_class=raw)
    evaluate = commands.add_parser(
        "evaluate", help="measure PSNR and SSIM", description=EVALUATE_HELP, formatter_class=raw
    )
    export = commands.add_parser(
        "export", help="write a network for other programs", description=exporting.HELP, formatter_class=raw
    )
    add_train_flags(train.add_argument)
    add_upscale_flags(upscale.add_argument)
    add_evaluate_flags(evaluate.add_argument)
    exporting.add_flags(export.add_argument)
    for command in (upscale, evaluate, export):
        command.add_argument(
            "-m", "--model", metavar="|".join((*MODELS, "FILE")), help="a kind of network, or a file of weights"
        )
        command.add_argument("--blend", type=Path, metavar="FILE", help="mix these weights in (network interpolation)")
        command.add_argument("--alpha", type=console.share, help="-m's share of the mixture, 0 to 1 (default 0.5)")
    for command in (train, evaluate):
        command.add_argument(
            "-d", "--degradation", choices=("bicubic", "photo", "real"), default="bicubic",
            help="how the low pictures are made: only shrunk (bicubic, the default), as a camera or a web site makes "
            "them (photo), or blurred, noisy and compressed, and all that twice (real)",
        )  # fmt: skip
        command.add_argument("--seed", type=console.not_negative, default=0, help="same seed, same result (default 0)")
    for command, default in ((train, "auto"), (upscale, "auto"), (evaluate, "fp32")):
        command.add_argument(
            "--precision", choices=("auto", "fp32", "bf16", "fp16"), default=default,
            help="of the convolutions; auto is the fastest that costs no quality (default %(default)s)",
        )  # fmt: skip
        command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return parser


def add_train_flags(add) -> None:
    """What `train` alone understands."""
    add("-m", "--model", choices=MODELS, default="srcnn", help="which (default srcnn)")
    add("-e", "--epochs", type=console.positive, help="epochs of this run (default 20)")
    add(
        "-i", "--input", action="extend", nargs="+", type=Path, metavar="DIR|LIST.txt",
        help="samples, photographs or lists of photographs",
    )  # fmt: skip
    add("-s", "--scale", type=console.scale, help="how many times larger (default 2 for srcnn, 4 for the others)")
    add("-n", "--new", action="store_true", help="start a new run instead of resuming one")
    add(
        "--from", dest="start", type=Path, metavar="FILE|random",
        help="start a new run from these weights, or from untrained ones where others would be taken",
    )  # fmt: skip
    add("-b", "--batch", type=console.positive, help="patches in a batch (default 16, of rrdb, esrgan and srvgg 8)")
    add(
        "--accumulate", type=console.positive, default=1, metavar="N",
        help="compute N batches for each update, for less memory",
    )  # fmt: skip
    add("--clip", type=console.positive_real, default=0.0, metavar="NORM", help="cut longer gradients to this norm")
    add(
        "--learning-rate", type=console.positive_real, help="at the start of the run (defaults: engine/settings.py)"
    )  # fmt: skip
    add("--kernels", choices=["9-1-5", "9-3-5", "9-5-5"], help="sides of srcnn's filters (default 9-5-5)")
    add("--blocks", type=console.positive, help="of rrdb, esrgan and ecbsr (default 6, 6, 4)")
    add("--features", type=console.positive, help="channels of rrdb, esrgan, srvgg and ecbsr (default 32, 32, 64, 16)")
    add("--growth", type=console.positive, help="channels that a convolution adds in a dense block (default 16)")
    add(
        "--generator", choices=("rrdb", "srvgg"), help="of esrgan: rrdb, or the smaller and faster srvgg (default rrdb)"
    )
    add("--convolutions", type=console.positive, help="of srvgg between its first and last (default 16)")
    add("--paper", action="store_true", help="the published rrdb, esrgan and defaults; give -e 4000 and -e 1600")
    add(
        "--perceptual", metavar="imagenet|random|FILE",
        help="VGG19's weights for esrgan: torchvision's, fetched once (default); random; or a file of them",
    )  # fmt: skip
    add(
        "--gan-weight", type=console.not_negative_real, metavar="X",
        help="of the adversarial loss in esrgan; 0: without (defaults as in engine/settings.py)",
    )  # fmt: skip
    add(
        "--save-every", type=console.positive_real, default=5.0, metavar="MINUTES",
        help="besides after epochs (default 5)",
    )  # fmt: skip
    add(
        "--val", action="extend", nargs="+", type=Path, metavar="DIR",
        help="pictures to watch besides; they choose nothing",
    )  # fmt: skip


def add_upscale_flags(add) -> None:
    """What `upscale` alone understands."""
    add(
        "-i", "--input", action="extend", nargs="+", type=Path, required=True, metavar="FILE|DIR",
        help="pictures, or folders of them",
    )  # fmt: skip
    add(
        "-o", "--output", metavar="FILE|DIR",
        help="where to (default images_upscaled/); a file's name says the format: png, jpg, webp, tif, bmp or gif; "
        "a slash at the end means a folder",
    )  # fmt: skip
    add("--format", choices=("png", "jpg", "webp", "tif"), help="of all results (default: what suits the picture)")
    add("--keep-names", action="store_true", help="call the result of NAME.jpg NAME.png; what is there stays")
    add(
        "--outscale", type=console.enlargement, metavar="X",
        help="how many times larger, any factor (default the network's)",
    )  # fmt: skip
    add("--skip-existing", action="store_true", help="leave out pictures that have a result already")
    add(
        "--quality", type=console.percent, default=95, metavar="Q",
        help="of JPEG and WebP; 100: lossless WebP (default 95)",
    )  # fmt: skip
    add(
        "--compare", action="store_true",
        help="draw the result beside nearest neighbour and bicubic, and write a page with a before/after slider",
    )  # fmt: skip
    add("--srgb", action="store_true", help="convert colours that a profile describes to sRGB; else it travels along")
    add("--alpha-bicubic", action="store_true", help="enlarge transparency by bicubic interpolation, which is faster")
    add(
        "--tile", type=console.tile_side, metavar="N",
        help="pixels a side that the network gets at once; fewer take less memory (default 256, rrdb and esrgan 512)",
    )  # fmt: skip
    add("--huge", action="store_true", help="open files of more than 178 million pixels too: only if you trust them")


def add_evaluate_flags(add) -> None:
    """What `evaluate` alone understands."""
    add(
        "-i", "--input", action="extend", nargs="+", type=Path, required=True, metavar="DIR",
        help="folders of sharp pictures",
    )  # fmt: skip
    add("-s", "--scale", type=console.scale, help="how many times smaller and larger (default: the network's)")
    add(
        "--perceptual", metavar="imagenet|random|FILE",
        help="measure also what PSNR does not see: distance in VGG19's features, fine detail, shift of colour, weaves",
    )  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write the figures there too")


def train_command(options: argparse.Namespace) -> None:
    """`main.py train`."""
    from engine.devices import choose_device, joined_processes, run_on_first
    from engine.training import train

    device = choose_device(options.cpu)
    settings = chosen_settings(options, device)
    given = [name for name in ("epochs", "learning_rate") if getattr(options, name) is not None]
    with joined_processes(device):
        sources = run_on_first(lambda: chosen_sources(options.input, settings, options.seed))
        path = train(
            settings, sources, options.epochs or 20, options.new, options.val or [], device,
            options.start, given, options.save_every,
        )  # fmt: skip
        print(f"{path}\n{path.with_suffix('.curves.png')}\n{path.with_suffix('.before_after.png')}")


def chosen_settings(options: argparse.Namespace, device):
    """The preset of the model with what the command line says in its place."""
    from dataclasses import replace

    from engine.devices import choose_precision
    from engine.settings import preset
    from imaging.console import UsageError
    from srcnn import KERNELS

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
    from imaging.console import UsageError

    model, generator = options.model, options.generator or options.model
    if generator in ("rrdb", "esrgan") and options.scale not in (None, 2, 4, 8):
        raise UsageError(f"-s {options.scale}: {model} enlarges by 2, 4 or 8")
    if options.generator and model != "esrgan":
        raise UsageError("--generator: is for -m esrgan")
    if options.paper and generator not in ("rrdb", "esrgan"):
        raise UsageError(f"--paper: {generator} has no such preset, only rrdb and esrgan")


def fill_if_named(inputs: list[Path]) -> None:
    """Fill images_raw/ with free photographs if it is named and empty: then every command has something to work on."""
    from gen_samples import PHOTOGRAPHS, fill_if_empty

    if PHOTOGRAPHS in inputs:
        fill_if_empty(PHOTOGRAPHS)


def chosen_sources(named: list[Path] | None, settings, seed: int) -> list[Path]:
    """What `-i` names, else the default; images_raw/ is filled while it is empty in both cases."""
    fill_if_named(named or [])
    return named or default_samples(settings, seed)


def default_samples(settings, seed: int) -> list[Path]:
    """The samples that are there for this scale, else new ones cut from images_raw/.

    Samples for another scale are somebody's work and stay: the photographs are then used as they are, as they
    always are for networks that enlarge by themselves and for degraded pictures, which are made while training.
    """
    from engine.layouts import on_meta
    from engine.networks import is_given_enlarged
    from gen_samples import PHOTOGRAPHS, cut_samples, fill_if_empty, sample_scale
    from imaging.console import note

    photographs, scale = PHOTOGRAPHS, settings.scale
    folders = [Path("samples_gen_64"), Path("samples_gen_32")]
    if not is_given_enlarged(on_meta(settings.model, settings.shape)) or settings.degradation != "bicubic":
        fill_if_empty(photographs)
        return [photographs]
    scales = {folder: sample_scale(folder) for folder in folders if folder.exists()}
    if not scales:
        note(f"no samples yet: cutting {DEFAULT_SAMPLES} from {photographs}/ into {folders[1]}/")
        cut_samples(DEFAULT_SAMPLES, 32, scale, seed, photographs, folders[1])
        return folders[1:]
    fitting = [folder for folder, found in scales.items() if found == scale]
    fitting.sort(key=lambda folder: folder.stat().st_mtime)
    if not fitting:
        note(
            f"no samples for ×{scale} in {', '.join(map(str, scales))}: cutting patches from {photographs}/ as it goes"
        )
        fill_if_empty(photographs)
    return fitting[-1:] or [photographs]


def upscale_command(options: argparse.Namespace) -> None:
    """`main.py upscale`."""
    from tqdm import tqdm

    from engine.batch import upscale_files
    from engine.choosing import Chooser
    from engine.devices import choose_device, choose_precision
    from engine.settings import UpscaleSettings
    from engine.targets import chosen_output, list_inputs

    fill_if_named(options.input)
    output = chosen_output(options.output)
    inputs = list_inputs(options.input, output)
    device = choose_device(options.cpu)
    chooser = Chooser(options.model, options.blend, options.alpha, device, tqdm.write)
    precision = choose_precision(options.precision, device)
    print(f"device: {device} ({precision})")
    settings = UpscaleSettings(
        options.outscale, options.tile or 0, precision, options.alpha_bicubic, options.quality, options.compare,
        options.skip_existing, options.format, options.keep_names, options.huge, options.srgb,
    )  # fmt: skip
    upscale_files(inputs, output, chooser, settings)


def evaluate_command(options: argparse.Namespace) -> None:
    """`main.py evaluate`."""
    from engine.choosing import choose_network
    from engine.devices import choose_device, choose_precision
    from engine.evaluation import EvaluationSettings, evaluate_sets
    from engine.upscaling import Tiling
    from engine.weights import load_vgg19
    from imaging.console import UsageError, note, replacing

    fill_if_named(options.input)
    device = choose_device(options.cpu)
    chosen = choose_network(options.model, options.blend, options.alpha, options.scale, options.degradation)
    network, checkpoint = (chosen.network, chosen.checkpoint) if chosen else (None, None)
    if chosen:
        print(f"network: {chosen.told}")
    scale = options.scale or (checkpoint["scale"] if checkpoint else None)
    if scale is None:
        raise UsageError("no network yet: say with -s by how much to shrink, for the figures of bicubic alone")
    if checkpoint and checkpoint["scale"] != scale:
        raise UsageError(
            f"{options.model} enlarges ×{checkpoint['scale']}, not ×{scale}: leave out -s or choose another"
        )
    if network is None:
        note(f"no network for ×{scale} yet: bicubic alone")
    else:
        network = network.to(device)
    tiling = Tiling(precision=choose_precision(options.precision, device))
    vgg = load_vgg19(options.perceptual, ("conv3_4", "conv5_4")) if options.perceptual else None
    settings = EvaluationSettings(scale, network, vgg, options.degradation, options.seed, tiling)
    report = evaluate_sets(options.input, settings)
    print_report(report)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def export_command(options: argparse.Namespace) -> None:
    """`main.py export`."""
    fill_if_named(options.input or [])
    exporting.run(options)


FORMATS = {
    "psnr": "8.2f", "error": "7.2f", "ssim": "8.4f",
    "conv3_4": "9.3f", "conv5_4": "9.3f", "detail": "8.2f", "colour": "8.2f", "weave": "7.2f", "chroma": "8.2f",
}  # fmt: skip


def print_report(report: dict) -> None:
    """The figures as a table: a line for each picture, the mean last."""
    for name, figures in report["sets"].items():
        methods = [method for method in ("bicubic", "input", "model") if method in figures]
        metrics = {metric: form for metric, form in FORMATS.items() if metric in figures[methods[0]]}
        title = f"{name} ×{report['scale']}"
        width = max(len(row["name"]) for row in [*figures["images"], {"name": title}])
        heads = "".join(f"{metric:>{form.split('.')[0]}}" for metric, form in metrics.items())
        print("\n" + " " * width + "".join(f"{method:>{len(heads)}}" for method in methods))
        print(f"{title:{width}}" + heads * len(methods))
        for row in [*figures["images"], {"name": "mean", **figures}]:
            cells = (f"{row[method][metric]:{form}}" for method in methods for metric, form in metrics.items())
            print(f"{row['name']:{width}}{''.join(cells)}")
    print(f"\n{report['protocol']}")


COMMANDS = {"train": train_command, "upscale": upscale_command, "evaluate": evaluate_command, "export": export_command}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, run the command, return the exit code."""
    options = build_parser().parse_args(arguments)
    return run_command(COMMANDS[options.command], options)


if __name__ == "__main__":
    sys.exit(main())
