"""The flags of `train`, and what its --help says. Imports nothing that has to be installed."""

from imaging import console

MODELS = ("srcnn", "rrdb", "esrgan", "srvgg", "ecbsr")
DEGRADATIONS = ("bicubic", "photo", "real")

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

--from FILE starts a new run from weights of any program, whose kind, shape and scale it takes.

-d says how the low-quality pictures of the training are made. Runs of one degradation never mix with another's.

  bicubic  only shrunk, as in the published tables
  photo    as a camera or a web site makes them: a little blurred, sharpened or noisy, and most of them JPEG
  real     Real-ESRGAN's second-order degradation: blurred, noisy and compressed, and all that twice; six in ten as
           in photo, but further, none with --paper. rrdb is then Real-ESRNet, esrgan is Real-ESRGAN

Pairs that others have made are learnt from as they are: two folders or lists (-i HIGH --lq LOW), whose names agree up
to the kind of file and a tail such as x4; one folder that has gt/ and lq/, hq/ and lq/, or HR/ and LR/; ID.large.* and
ID.small.*; BasicSR's meta_info lists. -d then chooses losses and discriminator alone, and the checkpoint says "pairs".

On photo, real and pairs a network starts from the latest of its kind on bicubic pictures, if there is one; esrgan from
the latest of its generator on the same degradation.

An epoch is one pass over ready-cut samples; over photographs it is 250 updates. Without -i, srcnn uses the newest
samples, samples_gen_64/ or samples_gen_32/, cut from images_raw/ if there are none; the others use images_raw/ itself.
A tenth of the photographs, ten at most, is held out. PSNR is measured on them, and the weights that do best there are
kept; of esrgan those that are nearest to the real picture in VGG19's features. With --choose-by-val --val decides.
"""


def add_train_flags(parser) -> None:
    """What `train` alone understands, by what it is about."""
    add_run_flags(parser.add_argument_group("the run").add_argument)
    add_network_flags(parser.add_argument_group("the network").add_argument)
    add_learning_flags(parser.add_argument_group("how it learns").add_argument)
    add_measuring_flags(parser.add_argument_group("what is measured and kept").add_argument)


def add_run_flags(add) -> None:
    """Which pictures, how long, and where it starts."""
    add(
        "-i", "--input", action="extend", nargs="+", type=console.file_name, metavar="DIR|LIST.txt",
        help="photographs, samples, pairs in gt/ and lq/, hq/ and lq/ or HR/ and LR/ of a folder, or lists of them",
    )  # fmt: skip
    add("-e", "--epochs", type=console.positive, help="epochs of this run (default 20)")
    add("-n", "--new", action="store_true", help="start a new run instead of resuming one")
    add(
        "--resume", type=console.file_name, metavar="FILE",
        help="go on with this run, with its settings, not with the newest",
    )  # fmt: skip
    add(
        "--from", dest="start", type=console.file_name, metavar="FILE|random",
        help="start a new run from these weights, whose shape it takes, or from untrained ones",
    )  # fmt: skip
    add(
        "--discriminator-from", type=console.file_name, metavar="FILE",
        help="start esrgan's discriminator from these weights, whose kind and width it takes",
    )  # fmt: skip


def add_network_flags(add) -> None:
    """Its kind and shape."""
    add("-m", "--model", choices=MODELS, help="which (default srcnn, or that of --from)")
    add("-s", "--scale", type=console.scale, help="how many times larger (default 2 for srcnn, 4 for the others)")
    add("--kernels", choices=["9-1-5", "9-3-5", "9-5-5"], help="sides of srcnn's filters (default 9-5-5)")
    add("--blocks", type=console.positive, help="of rrdb, esrgan and ecbsr (default 6, 6, 4)")
    add("--features", type=console.positive, help="channels of rrdb, esrgan, srvgg and ecbsr (default 32, 32, 64, 16)")
    add("--growth", type=console.positive, help="channels that a convolution adds in a dense block (default 16)")
    add(
        "--generator", choices=("rrdb", "srvgg"), help="of esrgan: rrdb, or the smaller and faster srvgg (default rrdb)"
    )
    add("--convolutions", type=console.positive, help="of srvgg between its first and last (default 16)")
    add("--paper", action="store_true", help="the published rrdb, esrgan and defaults; give -e 4000 and -e 1600")


def add_learning_flags(add) -> None:
    """What decides the result besides."""
    add("-b", "--batch", type=console.positive, help="patches in a batch (default 16, of rrdb, esrgan and srvgg 8)")
    add(
        "--accumulate", type=console.positive, metavar="N", help="compute N batches for each update, for less memory"
    )  # fmt: skip
    add("--clip", type=console.positive_real, metavar="NORM", help="cut longer gradients to this norm")
    add("--learning-rate", type=console.positive_real, help="at the start of the run")
    add(
        "--perceptual", metavar="imagenet|small|random|FILE",
        help="VGG19's weights for esrgan: torchvision's, fetched once (default); small ones that ship; random; a file",
    )  # fmt: skip
    add("--gan-weight", type=console.not_negative_real, metavar="X", help="of esrgan's adversarial loss; 0: without")
    add(
        "--settings", type=console.file_name, metavar="FILE.toml|FILE.pt",
        help="take the settings from a file, as `python main.py info FILE.pt` lists them, or from a checkpoint",
    )  # fmt: skip
    add(
        "--set", action="append", metavar="NAME=VALUE",
        help="one setting, as adversarial.loss=hinge or real.first.noise.sigma=1,10; as often as wanted",
    )  # fmt: skip


def add_measuring_flags(add) -> None:
    """Which figures and files it leaves."""
    add(
        "--val", action="extend", nargs="+", type=console.file_name, metavar="DIR",
        help="pictures to watch besides; they choose nothing, unless you say so:",
    )  # fmt: skip
    add(
        "--choose-by-val", action="store_true",
        help="keep the weights that do best on --val's pictures, not on photographs that are held out",
    )  # fmt: skip
    add("--val-pictures", action="store_true", help="keep what it makes of --val's pictures after each epoch")
    add("--tensorboard", action="store_true", help="write files for TensorBoard too (pip install tensorboard)")
    add(
        "--save-every", type=console.positive_real, default=5.0, metavar="MINUTES",
        help="besides after epochs (default 5)",
    )  # fmt: skip
    add("--save-updates", type=console.positive, metavar="N", help="save after every N updates too")
    add(
        "--validate-updates", type=console.positive, metavar="N",
        help="measure, and choose the best weights, after every N updates instead of after epochs",
    )  # fmt: skip
    add(
        "--keep", type=console.positive, default=0, metavar="N",
        help="keep the weights of the last N epochs, or --save-updates, in models/NAME.kept/",
    )  # fmt: skip
    add("--name", type=console.plain_name, metavar="RUN", help="keep this run in a folder of its own, models/RUN/")
    add(
        "--cache", type=console.file_name, metavar="DIR",
        help="where pictures are packed that memory cannot hold (default photographs_packed/)",
    )  # fmt: skip
