"""The command line: train · upscale · evaluate.

    python main.py train -e 20           # SRCNN ×2 on the photographs in images_raw/
    python main.py upscale -i img.jpg    # with the newest network in models/
    python main.py evaluate -i DIR       # PSNR and SSIM beside bicubic

Only flags and words are here; the work is done by the other modules.
"""

# torch is imported inside the commands, so that --help answers at once.
import argparse
import json
import sys
from pathlib import Path

DEFAULT_SAMPLES = 2000  # 20 epochs over them take about two minutes on two CPU cores

TRAIN_HELP = """\
Train a network. The next `train` of the same model, scale and shape goes on from the newest checkpoint in models/.

An epoch is one pass over ready-cut samples; over photographs it is 250 updates. Without -i the samples
in samples_gen_64/ or samples_gen_32/ are used, and cut from images_raw/ if there are none.
A tenth of the photographs is held out: PSNR is measured on them and the best weights are those that do best there.
"""
UPSCALE_HELP = """\
Enlarge pictures. Without -m the newest checkpoint in models/ is used, else one that came with the program.
Results go to images_upscaled/NAME.xS.MODEL.DATE.png.
"""
EVALUATE_HELP = """\
Measure PSNR and SSIM on sharp pictures: each is cropped, shrunk, enlarged again and compared, beside bicubic.
"""


class Parser(argparse.ArgumentParser):
    """argparse, but wrong use is told in one line instead of after a page of usage."""

    def error(self, message: str):
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """Every flag of every command; one flag has one meaning everywhere."""
    parser = Parser(
        prog="main.py",
        description="Super-resolution, from SRCNN to ESRGAN: train a network, enlarge pictures, measure.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    raw = argparse.RawDescriptionHelpFormatter

    train = commands.add_parser("train", help="train a network", description=TRAIN_HELP, formatter_class=raw)
    train.add_argument("-m", "--model", choices=["srcnn"], default="srcnn", help="which network (default srcnn)")
    train.add_argument("-e", "--epochs", type=positive, default=20, help="epochs of this run (default 20)")
    train.add_argument(
        "-i", "--input", action="append", type=Path, metavar="DIR|LIST.txt",
        help="samples, photographs or a list of photographs; may be given several times",
    )  # fmt: skip
    train.add_argument("-s", "--scale", type=scale, default=2, help="how many times larger (default 2)")
    train.add_argument("-n", "--new", action="store_true", help="start anew instead of going on")
    train.add_argument("-b", "--batch", type=positive, default=16, help="patches in a batch (default 16)")
    train.add_argument(
        "--learning-rate", type=positive_real, default=1e-3, help="at the start of the run (default 1e-3)"
    )
    train.add_argument(
        "--kernels",
        choices=["9-1-5", "9-3-5", "9-5-5"],
        default="9-5-5",
        help="sides of SRCNN's filters (default 9-5-5)",
    )
    train.add_argument(
        "--val", action="append", type=Path, metavar="DIR", help="pictures to watch besides; they choose nothing"
    )
    train.add_argument("--seed", type=not_negative, default=0, help="same seed, same result (default 0)")

    upscale = commands.add_parser("upscale", help="enlarge pictures", description=UPSCALE_HELP, formatter_class=raw)
    upscale.add_argument(
        "-i",
        "--input",
        action="append",
        type=Path,
        required=True,
        metavar="FILE|DIR",
        help="a picture or a folder of them",
    )
    upscale.add_argument("-o", "--output", type=Path, metavar="FILE|DIR", help="where to (default images_upscaled/)")

    evaluate = commands.add_parser(
        "evaluate", help="measure PSNR and SSIM", description=EVALUATE_HELP, formatter_class=raw
    )
    evaluate.add_argument(
        "-i", "--input", action="append", type=Path, required=True, metavar="DIR", help="a folder of sharp pictures"
    )
    evaluate.add_argument(
        "-s", "--scale", type=scale, help="how many times smaller and larger (default: the network's)"
    )
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")

    for command in (upscale, evaluate):
        command.add_argument("-m", "--model", metavar="srcnn|FILE", help="a kind of network, or a checkpoint")
    for command in (train, upscale, evaluate):
        command.add_argument("--cpu", action="store_true", help="do not use a GPU")
    return parser


def positive(text: str) -> int:
    """An argparse type: a whole number from 1 up."""
    return _number(text, int, lambda number: number >= 1, "a whole number from 1 up")


def not_negative(text: str) -> int:
    """An argparse type: a whole number from 0 up."""
    return _number(text, int, lambda number: number >= 0, "a whole number from 0 up")


def scale(text: str) -> int:
    """An argparse type: how many times larger."""
    return _number(text, int, lambda number: 2 <= number <= 8, "a whole number from 2 to 8")


def positive_real(text: str) -> float:
    """An argparse type: a finite number above 0."""
    return _number(text, float, lambda number: 0 < number < float("inf"), "a number above 0")


def _number(text, kind, allowed, wanted):
    try:
        number = kind(text)
    except ValueError:
        number = None
    if number is None or not allowed(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
    return number


def train_command(options: argparse.Namespace) -> None:
    """`main.py train`."""
    from training import Settings, train
    from upscaling import choose_device

    settings = Settings(
        model=options.model,
        scale=options.scale,
        shape={"kernels": [int(side) for side in options.kernels.split("-")]},
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    sources = options.input or default_samples(options.scale, options.seed)
    path = train(settings, sources, options.epochs, options.new, options.val or [], choose_device(options.cpu))
    print(f"{path}\n{path.with_suffix('.curves.png')}\n{path.with_suffix('.before_after.png')}")


def default_samples(scale: int, seed: int) -> list[Path]:
    """The samples that are there for this scale, else new ones cut from images_raw/.

    Samples for another scale are somebody's work and stay: the photographs are then used as they are.
    """
    from gen_samples import cut_samples, find_or_fill, sample_scale
    from images import note

    photographs, folders = Path("images_raw"), [Path("samples_gen_64"), Path("samples_gen_32")]
    scales = {folder: sample_scale(folder) for folder in folders if folder.exists()}
    if not scales:
        note(f"no samples yet: cutting {DEFAULT_SAMPLES} from {photographs}/ into {folders[1]}/")
        cut_samples(DEFAULT_SAMPLES, 32, scale, seed, photographs, folders[1])
        return folders[1:]
    fitting = [folder for folder, found in scales.items() if found == scale]
    if not fitting:
        note(
            f"no samples for ×{scale} in {', '.join(map(str, scales))}: cutting patches from {photographs}/ as it goes"
        )
        find_or_fill(photographs)
    return fitting or [photographs]


def choose_network(model: str | None, scale: int | None):
    """The network that -m names, else the newest in models/, else one that ships: (network, checkpoint) or None."""
    import checkpoints

    if model is not None and model != "srcnn":
        path, checkpoint = Path(model), checkpoints.load_checkpoint(model)
    else:
        wanted = {"model": model} if model else {}
        wanted |= {"scale": scale} if scale else {}
        folders = (checkpoints.MODELS, checkpoints.PRETRAINED)
        found = next(
            filter(None, (checkpoints.find_latest(folder, measured=True, **wanted) for folder in folders)), None
        )
        if found is None:
            return None
        path, checkpoint = found
    network = checkpoints.load_network(checkpoint)
    print(f"network: {path} ({checkpoints.model_name(checkpoint)} ×{checkpoint['scale']})")
    return network, checkpoint


def upscale_command(options: argparse.Namespace) -> None:
    """`main.py upscale`."""
    from images import UsageError
    from upscaling import choose_device, list_inputs, upscale_files

    inputs = list_inputs(options.input)
    chosen = choose_network(options.model, None)
    if chosen is None:
        raise UsageError("no network yet: `python main.py train -e 20` trains one in a few minutes")
    network, checkpoint = chosen
    upscale_files(inputs, options.output, network.to(choose_device(options.cpu)), checkpoint)


def evaluate_command(options: argparse.Namespace) -> None:
    """`main.py evaluate`."""
    from images import UsageError, note, replacing
    from upscaling import choose_device, evaluate_sets

    chosen = choose_network(options.model, options.scale)
    network, checkpoint = chosen or (None, None)
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
        network = network.to(choose_device(options.cpu))
    report = evaluate_sets(options.input, scale, network)
    print_report(report)
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def print_report(report: dict) -> None:
    """The figures as a table: a line for each picture, the mean last."""
    for name, figures in report["sets"].items():
        methods = [method for method in ("bicubic", "model") if method in figures]
        width = max(len(row["name"]) for row in [*figures["images"], {"name": name}])
        print(f"\n{name} ×{report['scale']}".ljust(width + 1) + "".join(f"{method:>17}" for method in methods))
        for row in [*figures["images"], {"name": "mean", **figures}]:
            cells = "".join(f"   {row[method]['psnr']:6.2f} {row[method]['ssim']:7.4f}" for method in methods)
            print(f"{row['name']:{width}}{cells}")
    print(f"\n{report['protocol']}")


COMMANDS = {"train": train_command, "upscale": upscale_command, "evaluate": evaluate_command}


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, run the command, return the exit code."""
    options = build_parser().parse_args(arguments)
    from images import run_command

    return run_command(COMMANDS[options.command], options)


if __name__ == "__main__":
    sys.exit(main())
