"""How fast the program is on this machine, measured beside the same networks in the usual way.

    python tools/benchmark.py [--json FILE] [upscaling peers training degradation loading startup growth page memory]

Without names all sections but `memory`, which takes a quarter of an hour on one core; upscaling and growth take most
of the other minutes. Each row is a ratio of medians of interleaved repeats, so that what else the machine does hits
both sides. The yardstick is a 3×3 convolution from 64 to 64 channels at 512², channels-last, in the same precision.
On a machine that is busy with something else, OMP_NUM_THREADS=1 measures one core's processor time instead.
"""

import argparse
import contextlib
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from unittest.mock import patch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from imaging import console

if __name__ == "__main__":
    console.explain_missing_packages()

import torch
import torch.nn.functional as F
from page_speed import can_run, listed, make_jobs, side_for
from peak_memory import measure_memory, synthetic_photograph
from peers import jobs as peer_jobs
from plain import PlainAdversarialStep, PlainPixelStep, plain, plain_batch
from torch.utils.flop_counter import FlopCounterMode

import degrade
from engine import pairs
from engine.data import Data
from engine.devices import PRECISIONS, choose_device, choose_precision
from engine.discriminators import make_discriminator
from engine.layouts import on_meta
from engine.networks import build_network, is_given_enlarged
from engine.settings import preset
from engine.updates import make_stage, network_input
from engine.upscaling import Tiling, in_tiles, upscale
from engine.weights import load_vgg19
from esrgan import PerceptualLoss, RRDBNet, SRVGGNetCompact
from gen_samples import cut_samples
from imaging.images import from_bytes
from imaging.writing import check_writable
from srcnn import SRCNN

DEVICE = choose_device()
AUTO = choose_precision("auto", DEVICE)
ONE_CORE = DEVICE.type == "cpu" and torch.get_num_threads() == 1
PAUSE = 0.3  # seconds: the threads of a runtime go on spinning for a while and would hold up the next
SLOW = 5.0  # seconds: what takes longer is repeated three times, other things seven

rows = []  # what --json writes


def keep(section: str, row: str, **figures) -> None:
    """Remember a row for --json."""
    rows.append({"section": section, "row": row, **figures})


def clock() -> float:
    """Seconds, once the device has done what it was asked to."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if ONE_CORE else time.perf_counter()


def measure(jobs: dict) -> dict[str, float]:
    """Name → median seconds of what is called, in turns; the first turn does not count."""
    times = {name: [] for name in jobs}
    repeats = 8
    while len(min(times.values(), key=len)) < repeats:
        for name, job in jobs.items():
            time.sleep(PAUSE)
            started = clock()
            job()
            times[name].append(clock() - started)
            if times[name][-1] > SLOW:
                repeats = 4
    return {name: median(found[1:]) for name, found in times.items()}


def compare(section: str, row: str, jobs: dict, flops: float = 0, peaks: dict | None = None) -> dict[str, float]:
    """Measure jobs, of which the first is the reference, and print and keep a line for each of the others."""
    seconds = measure(jobs)
    reference = next(iter(seconds.values()))
    for name, found in list(seconds.items())[1:]:
        share = flops / found / peaks[name.split()[0]] if peaks else None
        of_peak = f"{100 * share:6.0f} %" if peaks else ""
        times = f"{1e3 * reference:11.1f} ms{1e3 * found:11.1f} ms{reference / found:8.2f} ×"
        print(f"{section:12}{row:36}{name:16}{times}{of_peak}", flush=True)
        keep(section, row, ours=name, reference_seconds=reference, seconds=found, ratio=reference / found, peak=share)
    return seconds


@torch.inference_mode()
def measure_peaks() -> dict[str, float]:
    """Precision → operations a second of the yardstick."""
    peaks, operations = {}, 2 * 64 * 64 * 9 * 512 * 512
    for precision in dict.fromkeys(("fp32", AUTO)):
        kind = {"dtype": PRECISIONS[precision], "device": DEVICE}
        maps, weight = (
            torch.rand(shape, **kind).contiguous(memory_format=torch.channels_last)
            for shape in ((1, 64, 512, 512), (64, 64, 3, 3))
        )
        seconds = measure({"": lambda maps=maps, weight=weight: F.conv2d(maps, weight, padding=1)})[""]
        peaks[precision] = operations / seconds
        print(f"peak        {precision:50}{operations / seconds / 1e9:9.0f} billion operations a second")
        keep("peak", precision, operations_a_second=peaks[precision])
    return peaks


# ---------------------------------------------------------------------------------------------
# The sections
# ---------------------------------------------------------------------------------------------


def operations(network: torch.nn.Module, size: tuple[int, ...]) -> float:
    """Multiplications and additions of the network as it is written down, counted without computing any."""
    with FlopCounterMode(display=False) as counter:
        network.to("meta")(torch.empty(size, device="meta"))
    return counter.get_total_flops()


@torch.inference_mode()
def measure_upscaling() -> None:
    """Each network over pictures of two sizes, beside the same one in the usual way."""
    peaks = measure_peaks()
    compact, srvgg = ("RRDB 6×32×16", RRDBNet()), ("SRVGG compact", SRVGGNetCompact())
    networks = [
        (("SRCNN 9-5-5", SRCNN()), 512), (("SRCNN 9-5-5", SRCNN()), 1000), (compact, 128), (compact, 256),
        (srvgg, 128), (srvgg, 256), (("RRDB 23×64×32", RRDBNet(4, 64, 32, 23)), 128),
        (("RRDB 23×64×32", RRDBNet(4, 64, 32, 23)), 256),
    ]  # fmt: skip
    for (title, network), side in networks:
        network = network.eval().to(DEVICE)
        picture = torch.rand(1, 1 if network.luma else 3, side, side)
        usual, scale = plain(network).eval(), 1 if network.luma else 4
        jobs = {"reference": lambda usual=usual, picture=picture: usual(picture.to(DEVICE)).cpu()}
        for precision in dict.fromkeys(("fp32", AUTO)):
            tiling = Tiling(precision=precision)
            jobs[precision] = lambda network=network, picture=picture, scale=scale, tiling=tiling: in_tiles(
                network, picture, scale, tiling
            )
        compare("upscaling", f"{title}, {side}²", jobs, operations(plain(network), picture.shape), peaks)


@torch.inference_mode()
def measure_peers() -> None:
    """Each network beside the same one by other programs, bare: of one tile, and in the last row through `upscale`."""
    srvgg, rrdb = ("SRVGG 16", SRVGGNetCompact()), ("RRDB 6×32×16", RRDBNet())
    rows_of = [(("SRCNN 9-5-5", SRCNN()), 256, False), (srvgg, 256, False), (rrdb, 256, False), (srvgg, 500, True)]
    for (title, network), side, whole in rows_of:
        network = network.eval().requires_grad_(False)
        picture = torch.rand(1, 1 if network.luma else 3, side, side)
        for precision in dict.fromkeys(("fp32", AUTO)):
            row = f"{title}, {side}²{', upscale' if whole else ''}, {precision}"
            compare("peers", row, peer_jobs(network, picture, precision, whole))


def random_batch(settings, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` low and high patches of noise as bytes, of the sizes that these settings train on."""
    side = settings.patch * (1 if is_given_enlarged(on_meta(settings.model, settings.shape)) else settings.scale)
    return tuple(torch.randint(256, (count, 3, size, size), dtype=torch.uint8) for size in (settings.patch, side))


def make_steps(settings) -> tuple:
    """Our update and the usual one on the same batch, each from the same weights."""
    network = build_network(settings.model, settings.shape).to(DEVICE)
    with contextlib.redirect_stderr(io.StringIO()):  # it says loudly that VGG19's weights are random
        stage = make_stage(settings, network.state_dict(), DEVICE)
        if settings.adversarial:
            layers, relative = settings.adversarial.layers, settings.adversarial.relative
            perceptual = PerceptualLoss(load_vgg19("random", layers), layers, relative).to(DEVICE)
            discriminator = make_discriminator(settings).to(DEVICE)
            usual = PlainAdversarialStep(network, discriminator, perceptual, settings.adversarial)
        else:
            usual = PlainPixelStep(network)
    return stage, usual


def measure_training() -> None:
    """An update of each kind, beside the usual one."""
    for model, title in (("srcnn", "SRCNN"), ("rrdb", "compact RRDB"), ("esrgan", "compact ESRGAN, VGG19")):
        settings = preset(model, 2 if model == "srcnn" else 4)
        if settings.adversarial:
            settings = replace(settings, adversarial=replace(settings.adversarial, perceptual="random"))
        low, high = random_batch(settings, settings.batch)
        jobs = {}
        for precision in dict.fromkeys(("fp32", AUTO)):
            stage, usual = make_steps(replace(settings, precision=precision))
            inputs = tuple(network_input(stage.network, part).contiguous() for part in (low, high))
            jobs.setdefault("reference", lambda usual=usual, inputs=inputs: usual(*inputs))
            jobs[precision] = lambda stage=stage, low=low, high=high: stage.update(low, high, 1e-4, 1)
        compare("training", f"{title}, batch of {settings.batch}", jobs)


def measure_degradation() -> None:
    """The chain, beside a training step of the compact RRDB on the batch that it makes; and each stage's share."""
    settings = replace(preset("rrdb", 4), patch=64, batch=16, precision=AUTO)
    low, high = random_batch(settings, 16)
    stage, _ = make_steps(settings)
    pictures, seeds, shares = from_bytes(high.to(DEVICE)), iter(range(10**6)), {}

    def chain() -> None:
        steps = degrade.sample_second_order(pictures.shape, 4, torch.Generator().manual_seed(next(seeds)))
        done, started = degrade.step_by_step(pictures, steps), clock()
        for step, _ in done:
            shares[step.name] = shares.get(step.name, 0) + clock() - started
            started = clock()

    seconds = measure({"step": lambda: stage.update(low, high, 1e-4, 1), "chain": chain})
    print(f"degradation second_order on 16×256²: {1e3 * seconds['chain']:.0f} ms, "
          f"{100 * seconds['chain'] / seconds['step']:.0f} % of a step of {1e3 * seconds['step']:.0f} ms")  # fmt: skip
    parts = {name: part / sum(shares.values()) for name, part in shares.items()}
    print("            " + ", ".join(f"{name} {100 * part:.0f} %" for name, part in parts.items()), flush=True)
    keep("degradation", "second_order", seconds=seconds["chain"], of_a_step=seconds["chain"] / seconds["step"], **parts)


def measure_loading() -> None:
    """Cutting a batch from photographs, beside opening a file for every sample; and cutting samples into files."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.png" for number in range(12)]
        for path in paths:
            synthetic_photograph(0.4).save(path)
        for model in ("srcnn", "rrdb"):
            settings = replace(preset(model, 4), precision=AUTO)
            side = settings.patch * (1 if model == "srcnn" else 4)
            with contextlib.redirect_stderr(io.StringIO()):  # no bars between the lines
                data = Data([Path(folder)], settings)
            stage, _ = make_steps(settings)
            low, high = random_batch(settings, settings.batch)
            jobs = {
                "reference": lambda settings=settings, side=side: plain_batch(paths, settings.batch, side, 4),
                "batch": lambda data=data: data.cut(0),
            }
            found = compare("loading", f"{model}, batch of {settings.batch}", jobs)
            step = measure({"": lambda stage=stage, low=low, high=high: stage.update(low, high, 1e-4, 1)})[""]
            print(f"            {100 * found['batch'] / step:.1f} % of a training step", flush=True)
            keep("loading", f"{model}, share of a step", share=found["batch"] / step)
        measure_patches(Path(folder))
        target = Path(folder) / "samples_gen_32"
        with contextlib.redirect_stderr(io.StringIO()):
            seconds = measure({"": lambda: cut_samples(400, 32, 2, 0, Path(folder), target)})[""]
        print(f"loading     gen_samples.py 400: {seconds:.2f} s")
        keep("loading", "gen_samples.py 400", seconds=seconds)


def measure_patches(folder: Path) -> None:
    """Patches a second that are cut for `--paper`, from memory and from pictures that are packed on disk."""
    for degradation in ("bicubic", "real"):
        settings = preset("rrdb", 4, True, degradation)
        for place, bound in (("memory", pairs.PIXELS_IN_MEMORY), ("packed pictures", 0)):
            with contextlib.redirect_stderr(io.StringIO()), patch.object(pairs, "PIXELS_IN_MEMORY", bound):
                data = Data([folder], settings, cache=folder / ".packed")
            steps = iter(range(10**6))
            rate = settings.batch / measure({"": lambda data=data, steps=steps: data.cut(next(steps))})[""]
            print(f"loading     --paper -d {degradation}, from {place}: {rate:.0f} patches a second", flush=True)
            keep("loading", f"--paper -d {degradation}, from {place}", patches_per_second=rate)


def measure_startup() -> None:
    """How long Python, `import torch` and `main.py --help` take."""

    def start(*arguments: str):
        return lambda: subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, check=True)

    def wall(job) -> float:
        times = []
        for _ in range(6):
            started = time.perf_counter()
            job()
            times.append(time.perf_counter() - started)
        return median(times[1:])

    bare, torch_alone, ours = (
        wall(start(*arguments)) for arguments in (("-c", ""), ("-c", "import torch"), ("main.py", "--help"))
    )
    print(f"startup     python {bare:.2f} s, main.py --help {ours:.2f} s, import torch {torch_alone:.2f} s", flush=True)
    keep("startup", "main.py --help", seconds=ours, python=bare, torch=torch_alone)


@torch.inference_mode()
def measure_growth() -> None:
    """Seconds for each megapixel of the result, from 0.25 to 16: they should not grow."""
    for title, network, scale in (("SRCNN 9-5-5 ×2", SRCNN(), 2), ("RRDB 6×32×16 ×4", RRDBNet(), 4)):
        network, each = network.eval().to(DEVICE), {}
        for megapixels in (0.25, 1, 4, 16):
            side = round((megapixels * 1e6) ** 0.5) // scale
            low, tiling = torch.rand(1, 3, side, side), Tiling(precision=AUTO)
            upscale(network, low, scale, tiling)
            times = []
            for _ in range(3 if megapixels < 16 else 1):
                started = clock()
                upscale(network, low, scale, tiling)
                times.append(clock() - started)
            each[megapixels] = median(times) / (scale * side) ** 2 * 1e6
        mean = sum(each.values()) / len(each)
        told = ", ".join(f"{size:g} MP {value:.3f} ({value / mean:.2f})" for size, value in each.items())
        print(f"growth      {title}: seconds a megapixel (of the mean): {told}", flush=True)
        keep("growth", title, seconds_a_megapixel=each)


@torch.inference_mode()
def measure_page() -> None:
    """Megapixels of the result a second: by the page in Chromium, by ONNX Runtime bare, and by this program."""
    if ONE_CORE or not can_run():  # this process's time says nothing of a browser's
        print("page        left out: it needs two threads, Chromium, Node and `npm ci` in web/", flush=True)
        return
    for entry in listed():
        side = entry["scale"] * side_for(entry)
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            seconds = measure(make_jobs(entry, Path(folder), stack))
        speeds = {name: side**2 / 1e6 / found for name, found in seconds.items()}
        told = ", ".join(f"{name} {speed:.2f}" for name, speed in speeds.items())
        print(f"page        {entry['name']} ×{entry['scale']}, megapixels a second: {told}", flush=True)
        keep("page", f"{entry['name']} ×{entry['scale']}", megapixels_a_second=speeds)


SECTIONS = {
    "upscaling": measure_upscaling, "peers": measure_peers, "training": measure_training,
    "degradation": measure_degradation, "loading": measure_loading, "startup": measure_startup,
    "growth": measure_growth, "page": measure_page, "memory": partial(measure_memory, keep),
}  # fmt: skip


def main(arguments: list[str]) -> None:
    """The command line of this script."""
    parser = argparse.ArgumentParser(description="Measure how fast the program is on this machine.")
    parser.add_argument("section", nargs="*", help=f"{', '.join(SECTIONS)} (default: all but memory)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args(arguments)
    if unknown := set(options.section) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    if options.json:
        check_writable(options.json)
    torch.manual_seed(0)
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else platform.processor() or platform.machine()
    time_of = "processor time of one core" if ONE_CORE else "time"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, auto is {AUTO}; {time_of}")
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0
    if busy > 0.5 and not ONE_CORE:
        print(f"the machine is busy (load {busy:.1f}): times are too long, and ratios only near what they would be")
    keep("machine", device, threads=torch.get_num_threads(), torch=torch.__version__, auto=AUTO, time=time_of)
    for name in options.section or [name for name in SECTIONS if name != "memory"]:
        SECTIONS[name]()
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
