"""The command line: train · upscale · evaluate · info · export.

    python main.py train -e 20           # SRCNN ×2 on the photographs in images_raw/
    python main.py upscale -i img.jpg    # with the newest network in models/
    python main.py evaluate -i DIR       # PSNR and SSIM beside bicubic
    python main.py info FILE             # what a file of weights is, and how it was trained
    python main.py export -o srcnn.onnx  # for other programs

Only flags and words are here, those of `train` in engine/flags.py; the work is done by the other modules.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (who has an older one should be told, not shown a traceback)
    sys.exit("error: needs Python 3.11 or newer; see Start in README.md")

import argparse
import json
from pathlib import Path

# torch is imported inside the commands, so that --help answers at once.
from engine import exporting
from engine.flags import DEGRADATIONS, MODELS, TRAIN_HELP, add_train_flags
from imaging import console
from imaging.console import Parser, run_command

DEFAULT_SAMPLES = 5000  # 20 epochs over them take about two minutes on two CPU cores with bf16

UPSCALE_HELP = """\
Enlarge pictures of any kind and size. Without -m the newest checkpoint is used that a training wrote into models/ and
that still has its name; where there is none, and with -m models/pretrained, of those that came with the program the one
that suits the picture: the crisp esrgan-photo for photographs and JPEGs, the faithful rrdb for drawings and text saved
without loss, rrdb-real for poor JPEGs and for noise, the fast srvgg for films. -m rrdb is faithful to all. A line says
which and why, once for each. Results go to images_upscaled/NAME.xS.MODEL.DATE.png; a tag after MODEL says which
weights, unless they came with the program.
Of a folder the structure is kept. Depth, transparency, colour profile, resolution, EXIF, XMP and comments are those of
the picture; animations stay such (.gif, .webp or .png).

Films (.mp4 .mkv .mov .webm .avi .ts and others, with the package av) keep the time of every picture, their sound and
subtitles. A run that was stopped goes on where it was. Under torchrun several processes share films and folders.
"""
EVALUATE_HELP = """\
Measure PSNR and SSIM on sharp pictures: each is cropped, shrunk, enlarged again and compared, beside bicubic. Pairs,
by --lq or as train knows them, are measured as they are. With -d photo or real each is degraded 20 times, by draws that
--seed decides, and the figures are means over them. Files of grey are measured on their own values, and a network that
does not enlarge stands beside its input.
"""


INFO_HELP = """\
Say what a file of weights is: kind, shape, data, history, and the settings of its training, as `train --settings` reads
them from a .toml file; of other programs' weights, what can be known.
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
    info = commands.add_parser("info", help="say what a file of weights is", description=INFO_HELP, formatter_class=raw)
    info.add_argument(
        "file", type=console.file_name, nargs="+", metavar="FILE", help="checkpoints, or weights of other programs"
    )
    export = commands.add_parser(
        "export", help="write a network for other programs", description=exporting.HELP, formatter_class=raw
    )
    add_train_flags(train)
    add_upscale_flags(upscale.add_argument)
    add_evaluate_flags(evaluate.add_argument)
    exporting.add_flags(export.add_argument)
    add_shared_flags(train, upscale, evaluate, export)
    return parser


def add_shared_flags(train, upscale, evaluate, export) -> None:
    """What several commands understand."""
    for command in (upscale, evaluate, export):
        command.add_argument(
            "-m",
            "--model",
            metavar="|".join((*MODELS, "FILE")),
            help="a kind of network, or a file of weights; models/pretrained: what ships and suits",
        )
        command.add_argument(
            "--blend", type=console.file_name, metavar="FILE", help="mix these weights in (network interpolation)"
        )
        command.add_argument("--alpha", type=console.share, help="-m's share of the mixture, 0 to 1 (default 0.5)")
    for command in (train, evaluate):  # of a training a file may say it too: it has no defaults here
        is_train = command is train
        command.add_argument(
            "--lq", action="extend", nargs="+", type=console.file_name, metavar="DIR|LIST.txt",
            help="the low pictures of those that -i names: pairs that somebody else has made",
        )  # fmt: skip
        command.add_argument(
            "-d", "--degradation", choices=DEGRADATIONS, default=None if is_train else "bicubic",
            help="how the low pictures are made: only shrunk (bicubic, the default), as a camera or a web site makes "
            "them (photo), or blurred, noisy and compressed, and all that twice (real)",
        )  # fmt: skip
        command.add_argument(
            "--seed", type=console.not_negative, default=None if is_train else 0,
            help="same seed, same result (default 0)",
        )  # fmt: skip
    for command in (upscale, evaluate):
        command.add_argument(
            "--ensemble", action="store_true",
            help="take the mean over eight flips and turns of the picture: a little better, eight times slower",
        )  # fmt: skip
    for command, default in ((train, "auto"), (upscale, "auto"), (evaluate, "fp32")):
        command.add_argument(
            "--precision", choices=("auto", "fp32", "bf16", "fp16"), default=default,
            help="of the convolutions; auto is the fastest that costs no quality (default %(default)s)",
        )  # fmt: skip
        command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    for command in (upscale, evaluate):
        command.add_argument(
            "--runtime", choices=("auto", "torch", "openvino"), default="auto",
            help="what computes the network: auto is OpenVINO (package openvino) where it is faster and as exact as "
            "PyTorch, which is on processors of the x86 kind",
        )  # fmt: skip
        command.add_argument(
            "--device", choices=("GPU", "NPU"), type=str.upper, help="an Intel GPU or NPU, which OpenVINO computes on"
        )


def add_upscale_flags(add) -> None:
    """What `upscale` alone understands."""
    add(
        "-i", "--input", action="extend", nargs="+", type=console.file_name, required=True, metavar="FILE|DIR",
        help="pictures, or folders of them",
    )  # fmt: skip
    add(
        "-o", "--output", type=console.not_empty, metavar="FILE|DIR",
        help="where to (default images_upscaled/); a file's name says the format: png, jpg, webp, tif, bmp or gif; "
        "a slash at the end means a folder",
    )  # fmt: skip
    add("--format", choices=("png", "jpg", "webp", "tif"), help="of all results (default: what suits the picture)")
    add("--keep-names", action="store_true", help="call the result of NAME.jpg NAME.png; what is there stays")
    add(
        "--outscale", type=console.enlargement, metavar="X",
        help="how many times larger, any factor (default the network's)",
    )  # fmt: skip
    add("--skip-existing", action="store_true", help="leave out pictures that have a result newer than they are")
    add(
        "--quality", type=console.percent, default=95, metavar="Q",
        help="of JPEG, WebP and films; 100: lossless WebP (default 95)",
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
    add("--codec", choices=("h264", "h265", "av1", "ffv1", "prores"), default="h264", help="of films (default h264)")
    add("--preset", help="of the encoder of films, as veryfast or slow: the slower, the smaller the file")
    add("--start", type=console.moment, metavar="TIME", help="enlarge a film from there on: seconds, or 1:02:03.5")
    add("--end", type=console.moment, metavar="TIME", help="and only to there")
    add("--deinterlace", action="store_true", help="make whole pictures of an interlaced film's half ones first")


def add_evaluate_flags(add) -> None:
    """What `evaluate` alone understands."""
    add(
        "-i", "--input", action="extend", nargs="+", type=console.file_name, required=True, metavar="DIR",
        help="folders of sharp pictures",
    )  # fmt: skip
    add("-s", "--scale", type=console.scale, help="how many times smaller and larger (default: the network's)")
    add(
        "--perceptual", type=console.not_empty, metavar="imagenet|small|random|FILE",
        help="measure also what PSNR does not see: distance in VGG19's features, or in the small ones that ship; fine "
        "detail, shift of colour, weaves",
    )  # fmt: skip
    add("--json", type=console.file_name, metavar="FILE", help="write the figures there too")


def train_command(options: argparse.Namespace) -> None:
    """`main.py train`."""
    from engine.assembling import chosen_settings, named_settings
    from engine.devices import choose_device, joined_processes, run_on_first
    from engine.following import Following
    from engine.packed import FOLDER
    from engine.saving import Upkeep
    from engine.starting import Start
    from engine.training import train

    device = choose_device(options.cpu)
    settings = chosen_settings(options, device)
    given = named_settings(options)
    upkeep = Upkeep(
        options.save_every, options.save_updates, options.validate_updates, options.keep, options.name,
        options.cache or FOLDER,
    )  # fmt: skip
    start = Start(options.new, options.start, options.discriminator_from, options.resume)
    following = Following(options.val or [], options.val_pictures, options.tensorboard)
    with joined_processes(device):
        sources = run_on_first(lambda: chosen_sources(options.input, options.lq, settings))
        path = train(settings, sources, options.epochs or 20, start, device, given, upkeep, following)
        print(f"{path}\n{path.with_suffix('.curves.png')}\n{path.with_suffix('.before_after.png')}")


def fill_if_named(inputs: list[Path]) -> None:
    """Fill images_raw/ with free photographs if it is named and empty: then every command has something to work on."""
    from gen_samples import PHOTOGRAPHS, fill_if_empty

    if PHOTOGRAPHS in inputs:
        fill_if_empty(PHOTOGRAPHS)


def chosen_sources(named: list[Path] | None, low: list[Path] | None, settings) -> list:
    """What `-i` and `--lq` name, else the default; images_raw/ is filled while it is empty in both cases."""
    from engine.sources import with_low

    fill_if_named(named or [])
    return with_low(named or [], low) or default_samples(settings)


def default_samples(settings) -> list[Path]:
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
        cut_samples(DEFAULT_SAMPLES, 32, scale, settings.seed, photographs, folders[1])
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
    from engine.devices import joined_processes
    from engine.runtimes import choose_runtime
    from engine.settings import UpscaleSettings
    from engine.targets import chosen_output, list_inputs

    fill_if_named(options.input)
    output = chosen_output(options.output)
    inputs = list_inputs(options.input, output)
    runtime = choose_runtime(options.runtime, options.precision, options.device, options.cpu)
    chooser = Chooser(options.model, options.blend, options.alpha, runtime, tqdm.write, options.ensemble)
    print(f"device: {runtime}")
    settings = UpscaleSettings(
        options.outscale, options.tile or 0, runtime.precision, options.alpha_bicubic, options.quality, options.compare,
        options.skip_existing, options.format, options.keep_names, options.huge, options.srgb,
        options.codec, options.preset, options.start, options.end, options.deinterlace,
    )  # fmt: skip
    with joined_processes(runtime.device):
        upscale_files(inputs, output, chooser, settings)


def evaluate_command(options: argparse.Namespace) -> None:
    """`main.py evaluate`."""
    from engine.choosing import as_used, choose_network
    from engine.ensembles import TOLD
    from engine.evaluation import EvaluationSettings, evaluate_sets
    from engine.runtimes import choose_runtime
    from engine.sources import OWN, find_sources, with_low
    from engine.upscaling import Tiling
    from engine.weights import load_vgg19
    from imaging.console import UsageError, note
    from imaging.writing import check_writable, replacing

    fill_if_named(options.input)
    named = with_low(options.input, options.lq)
    sources = [source for one in named for source in find_sources([one])]
    if len({(source.small is None, source.is_pair) for source in sources}) > 1:
        raise UsageError("photographs, pairs and samples of gen_samples.py: measure each apart")
    if sources[0].small and options.degradation != "bicubic":
        raise UsageError("pairs and samples are measured as they are: leave out -d")
    if options.json:
        check_writable(options.json)
    degradation = OWN if sources[0].is_pair else options.degradation
    runtime = choose_runtime(options.runtime, options.precision, options.device, options.cpu)
    chosen = choose_network(options.model, options.blend, options.alpha, options.scale, degradation)
    chosen = as_used(chosen, runtime, options.ensemble) if chosen else None
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
    tiling = Tiling(precision=runtime.precision)
    vgg = load_vgg19(options.perceptual, ("conv3_4", "conv5_4")) if options.perceptual else None
    settings = EvaluationSettings(scale, network, vgg, degradation, options.seed, tiling)
    report = evaluate_sets(named, settings)
    if chosen and options.ensemble:
        report["protocol"] += f"; of the network {TOLD}"
    print_report(report)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def info_command(options: argparse.Namespace) -> None:
    """`main.py info`."""
    from engine.describing import describe

    print("\n\n".join("\n".join(describe(path)) for path in options.file))


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
            print(f"{console.one_line(row['name']):{width}}{''.join(cells)}")
    print(f"\n{report['protocol']}")


COMMANDS = {
    "train": train_command, "upscale": upscale_command, "evaluate": evaluate_command, "info": info_command,
    "export": export_command,
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, run the command, return the exit code."""
    options = build_parser().parse_args(arguments)
    return run_command(COMMANDS[options.command], options)


if __name__ == "__main__":
    sys.exit(main())
