"""Settings by name: from the command line, from TOML, from a checkpoint; refused in one line; heeded; compared."""

import tomllib
from argparse import Namespace
from dataclasses import asdict, replace

import pytest
import torch
from test_training import ADVERSARIAL, CPU, RRDB, TINY, raised, short_epochs, unfinished  # noqa: F401 (a fixture)

import degrade
import esrgan
import main
from engine import data as data_module
from engine import overrides
from engine.assembling import chosen_settings, named_settings, settings_of
from engine.checkpoints import load_checkpoint, save_checkpoint
from engine.data import Data
from engine.describing import describe_history
from engine.flags import add_train_flags
from engine.overrides import as_toml, check_heeded, flat, known_names, listed, merged, nested
from engine.settings import NEWLY_ADVERSARIAL, NEWLY_PRESET, Adversarial, Settings, preset
from engine.starting import ANEW, GO_ON, Start
from engine.training import train
from imaging.console import Parser, UsageError, UserError


@pytest.fixture(autouse=True)
def without_pictures(monkeypatch):
    """Curves and pictures take longer than these trainings, and have tests of their own."""
    monkeypatch.setattr("engine.training.show_progress", lambda *_: None)


def read(*words: str) -> Namespace:
    """The command line of a training, as `main.py` reads it."""
    parser = Parser()
    add_train_flags(parser)
    for flag in ("-d", "--seed", "--precision"):
        names = {"-d": "--degradation"}
        parser.add_argument(flag, *([names[flag]] if flag in names else []), type=int if flag == "--seed" else str)
    options = parser.parse_args(list(words))
    options.precision = "fp32"
    return options


def chosen(*words: str) -> Settings:
    return chosen_settings(read(*words), CPU)


ALL = ("-m", "esrgan", "-d", "real")


@pytest.mark.parametrize(
    ("flags", "assignment", "name", "value"),
    [
        (ALL, "adversarial.pixel_weight=3", "adversarial.pixel_weight", 3.0),
        (ALL, "adversarial.loss=hinge", "adversarial.loss", "hinge"),
        (ALL, "real.first.noise.sigma=1,10", "real.first.noise.sigma", (1.0, 10.0)),
        (ALL, "real.second.quality = 40, 60", "real.second.quality", (40, 60)),
        (ALL, "real.final_sinc.sizes=21", "real.final_sinc.sizes", (21,)),
        (ALL, "photo.quality=[70,90]", "photo.quality", (70, 90)),
        (ALL, "adversarial.relative=false", "adversarial.relative", False),
        (("-d", "photo"), "photo.blur.sigma=0.1,0.2", "photo.blur.sigma", (0.1, 0.2)),
        ((), "milestones=100,200", "milestones", [100, 200]),
        ((), "learning_rate=1e-3", "learning_rate", 1e-3),
        ((), "pixel_loss=charbonnier", "pixel_loss", "charbonnier"),
        (("-m", "rrdb"), "shape.blocks=2", "shape", {**preset("rrdb", 4).shape, "blocks": 2}),
    ],
)
def test_a_setting_by_name(flags, assignment, name, value):
    settings = chosen(*flags, "--set", assignment)
    assert flat(settings)[name] == value if name != "shape" else settings.shape == value
    before = chosen(*flags)
    assert {key for key, one in flat(settings).items() if flat(before)[key] != one} == {name}


def test_every_field_has_a_name_and_takes_back_what_it_has():
    """Round trip: whatever `listed` says, TOML keeps, and `merged` reads, is the same settings."""
    for settings in (preset("esrgan", 4, degradation="real"), preset("srcnn", 2, degradation="photo"), ADVERSARIAL):
        text = "\n".join(f"{name} = {as_toml(value)}" for name, value in listed(settings).items())
        again = merged(replace(settings, learning_rate=7.0, seed=9), tomllib.loads(text), "")
        assert again == settings
    for mild in (0.0, 0.5, 1.0):  # and none of it is refused as unheeded
        settings = replace(preset("rrdb", 4, degradation="real"), mild=mild)
        check_heeded(tomllib.loads("\n".join(f"{k} = {as_toml(v)}" for k, v in listed(settings).items())), settings, "")
    names = known_names()
    assert len(names) == len(set(names)) > 90 and "real.second.blur.beta_generalised" in names
    assert {name.split(".")[0] for name in names} == set(Settings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("flags", "assignment", "words"),
    [
        ((), "bach=3", "--set bach: is no setting; did you mean batch?"),
        ((), "batch", "write NAME=VALUE"),
        ((), "=3", "write NAME=VALUE"),
        ((), "batch=0", "--set batch: is 0, not a whole number from 1 up"),
        ((), "batch=2.5", "batch: is 2.5, not a whole number"),
        ((), "batch=many", "batch: is many, not a whole number"),
        ((), "learning_rate=nan", "not a number"),
        ((), "learning_rate=-1", "not a number above 0"),
        ((), "sharpen=1", "true or false"),
        ((), "ema=1", "from 0 to under 1"),
        ((), "pixel_loss=l3", "one of auto, l1, charbonnier, l2"),
        ((), "patch=12", "leaves nothing"),
        ((), "model=rrdb", "--set model: give -m"),
        ((), "scale=3", "give -s"),
        ((), "adversarial.loss=hinge", "is for -m esrgan"),
        ((), "eight_bits=true", "is for -m ecbsr"),
        ((), "real.first.quality=30,40", "is for -d real"),
        (("-d", "real", "-m", "rrdb", "--set", "mild=1"), "real.first.quality=30,40", "where mild is under 1"),
        (("-d", "real", "-m", "rrdb", "--paper"), "photo.quality=60,70", "where mild is over 0"),
        (("-d", "photo"), "photo.noise.gaussian=1", "changes nothing; photo.gaussian"),
        (("-d", "photo"), "photo.quality=90,60", "photo.quality: is 90,60, not two numbers, the lower first"),
        (("-d", "photo"), "photo.quality=60", "not two numbers"),
        (("-d", "photo"), "photo.qualty=60,70", "did you mean photo.quality?"),
        (("-d", "photo"), "photo.clean=2", "a share, from 0 to 1"),
        (("-d", "photo"), "photo=3", "is a table"),
        (("-d", "photo"), "photo.compression=1,2", "4 shares"),
        (ALL, "real.first.blur.sizes=8", "odd whole numbers from 1 to 21"),
        (ALL, "real.first.blur.sigma=0,1", "above 0"),
        (ALL, "real.first.resize.up=0.5", "more than 1 together"),
        (ALL, "real.first.resize.factors=2,3", "from at least"),
        (ALL, "adversarial.loss=wgan", "one of auto, relativistic"),
        (ALL, "adversarial.discriminator=judge", "vgg or unet"),
        (ALL, "adversarial.layers.conv9_9=1", "VGG19's layers"),
        (ALL, "adversarial.features=0", "from 1 up"),
        (("-m", "esrgan", "-b", "1"), "patch=8", "1 patch of 32 pixels is too little for the batch norm"),
        (("-m", "esrgan"), "patch=4", "are 16 pixels for the discriminator (vgg), which needs 32"),
        (("-m", "rrdb"), "shape.convolutions=3", "shape.convolutions: rrdb has none"),
        (("-m", "rrdb"), "shape.blocks=-3", "no network can be"),
        (("-m", "rrdb"), "shape.scale=2", "the run is for ×4"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(flags, assignment, words):
    with pytest.raises(UsageError) as caught:
        chosen(*flags, "--set", assignment)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_of_settings_and_what_stands_above_it(place):
    (place / "a.toml").write_text(
        'model = "esrgan"\nscale = 2\ndegradation = "photo"\nbatch = 3\nlearning_rate = 1e-5\n'
        'shape.blocks = 2\nadversarial.loss = "vanilla"\n[photo.noise]\nsigma = [1, 2]\n'
    )
    settings = chosen("--settings", "a.toml")
    assert (settings.model, settings.scale, settings.degradation, settings.batch) == ("esrgan", 2, "photo", 3)
    assert settings.shape == {**preset("rrdb", 2).shape, "blocks": 2} and settings.adversarial.loss == "vanilla"
    assert settings.photo.noise.sigma == (1.0, 2.0)
    settings = chosen("--settings", "a.toml", "-b", "5", "-s", "4", "--set", "learning_rate=2e-5")
    assert (settings.batch, settings.scale, settings.shape["scale"], settings.learning_rate) == (5, 4, 4, 2e-5)
    named = named_settings(read("--settings", "a.toml", "--set", "mild=0"))
    assert named >= {"learning_rate", "mild", "batch", "adversarial.loss", "photo.noise.sigma"}
    (place / "b.toml").write_text('precision = "bf16"')
    options = read("--settings", "b.toml")
    options.precision = "auto"
    assert chosen_settings(options, CPU).precision == "bf16"
    with pytest.raises(UsageError, match=r"fp16: is for GPUs"):
        chosen("--set", "precision=fp16")
    (place / "b.toml").unlink()
    with pytest.raises(UsageError, match=r"a\.toml: is for -m esrgan, not rrdb"):
        chosen("--settings", "a.toml", "-m", "rrdb")
    for text, words in [("batch = 0", "a.toml: batch: is 0"), ("x = 3", "a.toml: x: is no setting")]:
        (place / "a.toml").write_text(text)
        with pytest.raises(UsageError, match=words):
            chosen("--settings", "a.toml")
    (place / "a.toml").write_text("batch = ")
    with pytest.raises(UserError, match="cannot be read as TOML"):
        chosen("--settings", "a.toml")
    with pytest.raises(UsageError, match="no such file"):
        chosen("--settings", "b.toml")


def test_settings_are_stored_and_taken_from_a_checkpoint(photographs):
    other = replace(RRDB, pixel_loss="charbonnier", warm_up=3, batch=2)
    path = train(other, [photographs], 1, ANEW, CPU)
    assert settings_of(load_checkpoint(path)["training"]["settings"], "") == other
    assert chosen("--settings", str(path)) == other
    assert chosen("--resume", str(path), "--set", "warm_up=4") == replace(other, warm_up=4)
    for flags in (["-n"], ["--from", "random"]):
        with pytest.raises(UsageError, match="does not go with it"):
            chosen("--resume", str(path), *flags)


def test_a_finished_run_of_an_older_version_goes_on_by_what_was_usual_then(large_photographs):
    """Presets have chosen these since; a checkpoint that does not tell must not get them."""
    path = train(replace(RRDB, degradation="photo"), [large_photographs], 1, ANEW, CPU)
    checkpoint = load_checkpoint(path)
    for name in NEWLY_PRESET:
        del checkpoint["training"]["settings"][name]
    save_checkpoint(checkpoint, path)
    assert preset("rrdb", 4, degradation="photo").multiscale
    settings = chosen("--resume", str(path))
    assert all(getattr(settings, name) == getattr(Settings(), name) for name in NEWLY_PRESET)


def test_a_finished_second_stage_of_an_older_version_does_so_too(photographs):
    path = train(ADVERSARIAL, [photographs], 1, ANEW, CPU)
    checkpoint = load_checkpoint(path)
    for name in NEWLY_ADVERSARIAL:
        del checkpoint["training"]["settings"]["adversarial"][name]
    save_checkpoint(checkpoint, path)
    assert preset("esrgan", 4).adversarial.spectrum_weight == 1
    adversarial = chosen("--resume", str(path)).adversarial
    assert all(getattr(adversarial, name) == getattr(Adversarial(), name) for name in NEWLY_ADVERSARIAL)


def test_settings_of_an_older_version_have_todays_defaults():
    old = asdict(ADVERSARIAL)
    for name in ("photo", "real", "pixel_loss", "mild", "sharpen"):
        del old[name]
    for name in ("loss", "style_weight", "spectrum_weight"):
        del old["adversarial"][name]
    assert settings_of(old, "") == ADVERSARIAL


@pytest.mark.parametrize(
    ("degradation", "change", "name"),
    [
        ("photo", {"photo": replace(degrade.PHOTO, quality=(60, 70))}, "photo.quality"),
        ("real", {"real": replace(degrade.SECOND_ORDER, first=degrade.Round(quality=(1, 2)))}, "real.first.quality"),
    ],
)
def test_an_unfinished_run_refuses_other_degradation(large_photographs, monkeypatch, degradation, change, name):
    settings = replace(RRDB, degradation=degradation)
    unfinished(large_photographs, monkeypatch, settings=settings)
    monkeypatch.setattr(data_module.Data, "__init__", lambda *_: raised(AssertionError("photographs were read")))
    with pytest.raises(UsageError, match=rf"{name} .* → "):
        train(replace(settings, **change), [large_photographs], 2, GO_ON, CPU, given={name})


@pytest.mark.parametrize("degradation", ["photo", "real"])
def test_pictures_are_degraded_as_the_settings_say(large_photographs, degradation):
    usual = replace(RRDB, degradation=degradation, mild=0.5 if degradation == "real" else 0.0)
    plain = Data([large_photographs], usual)
    clean = replace(degrade.PHOTO, clean=1.0, grey=0.0)
    if degradation == "photo":
        data = Data([large_photographs], replace(usual, photo=clean))
        high = data.finish(data.cut(0), 0)[1]
        assert all(torch.equal(pair.small[None], from_bicubic(pair.large)) for pair in data.held_out)
        grey = Data([large_photographs], replace(usual, photo=replace(clean, grey=1.0)))
        assert torch.equal(*(grey.finish(grey.cut(0), 0)[1][:, channel] for channel in (0, 2)))
        assert not torch.equal(high[:, 0], high[:, 2])
    else:
        noisy = replace(degrade.SECOND_ORDER, first=replace(degrade.Round(), quality=(1, 2)))
        changed = Data([large_photographs], replace(usual, real=noisy))
        assert not torch.equal(changed.finish(changed.cut(0), 0)[0], plain.finish(plain.cut(0), 0)[0])


def from_bicubic(large):
    from imaging.images import from_bytes, to_bytes

    return to_bytes(degrade.bicubic(from_bytes(large[None]), 4))


def test_batch_and_accumulate_change_against_each_other(photographs, monkeypatch):
    whole = load_checkpoint(train(RRDB, [photographs], 2, ANEW, CPU))
    unfinished(photographs, monkeypatch)
    with pytest.raises(UsageError, match="batch 4 → 2"):
        train(replace(RRDB, batch=2), [photographs], 2, GO_ON, CPU)
    resumed = load_checkpoint(train(replace(RRDB, batch=2, accumulate=2), [photographs], 2, GO_ON, CPU))
    for key, value in whole["params"].items():  # the update is the same but for rounding, which Muon enlarges
        torch.testing.assert_close(resumed["params"][key], value, atol=1e-3, rtol=1e-2)


def test_any_run_goes_on_by_its_file(photographs, monkeypatch):
    unfinished(photographs, monkeypatch, settings=replace(RRDB, warm_up=7))
    (path,) = (photographs.parent / "models").glob("*.pt")
    newer = train(RRDB, [photographs], 1, ANEW, CPU)
    settings = chosen("--resume", str(path))
    assert train(settings, [photographs], 2, Start(run=path), CPU) == path != newer
    finished = load_checkpoint(path)
    assert len(finished["history"]) == 2 and finished["training"]["settings"]["warm_up"] == 7
    third = train(settings, [photographs], 1, Start(run=path), CPU)
    assert third not in (path, newer) and len(load_checkpoint(third)["history"]) == 3


def test_words_as_values():
    assert nested(["a.b=1", "a.c=x y", "d=1,2", "e=C:\\x"]) == {"a": {"b": 1, "c": "x y"}, "d": [1, 2], "e": "C:\\x"}
    with pytest.raises(UsageError, match="has a value already"):
        nested(["a=1", "a.b=2"])
    assert overrides.parsed("1\nb = 2") == "1\nb = 2"  # one value, not two
    assert settings_of({"adversarial": asdict(Adversarial()), "learning_rate": 1e-4}, "").adversarial == Adversarial()
    assert TINY.adversarial is None


def test_parts_of_epochs_are_not_told_as_epochs():
    """A run that is measured every few updates has more entries than epochs in its history."""
    history = [{"epoch": part, "step": 100 * part, "psnr": 30.0} for part in (0.5, 1.0, 1.5)]
    assert describe_history(history, None)[0].startswith("history: 1.5 epochs, 150")
    assert describe_history(history[:2], None)[0].startswith("history: 1 epoch, 100")


def test_info_prints_settings_that_are_read_again(photographs, capsys):
    other = replace(RRDB, pixel_loss="charbonnier", warm_up=3, ema=0.5)
    path = train(other, [photographs], 1, ANEW, CPU)
    assert main.main(["info", str(path)]) == 0
    told = capsys.readouterr().out
    head, _, settings = told.partition("# settings\n")
    assert "network: rrdb ×4" in head and "features 8" in head and "1 epoch, 3 updates" in head
    assert "run: finished" in head and "4 pictures of 4 photographs" in head and "held out: photographs/" in head
    (path.parent / "again.toml").write_text(settings)
    assert chosen("--settings", "models/again.toml") == other
    torch.save({"params": load_checkpoint(path)["params"]}, "foreign.pth")
    torch.save({"params": esrgan.UNetDiscriminator(4).state_dict()}, "net_d.pth")
    assert main.main(["info", "foreign.pth", "net_d.pth"]) == 0
    told = capsys.readouterr().out
    assert "network: rrdb ×4" in told and "do not say" in told and "discriminator: U-Net" in told
    assert main.main(["info", "models/again.toml"]) == 1 and main.main(["info", "none.pt"]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
