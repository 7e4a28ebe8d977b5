"""Which network enlarges a picture: what was named, what is one's own, what ships and suits it."""

import io
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from test_checkpoints import make_checkpoint, make_rrdb

from engine import checkpoints, choosing
from engine.checkpoints import save_checkpoint
from engine.choosing import Chooser, choose_network, find_trained, preferred, suiting
from esrgan import SRVGGNetCompact
from imaging.console import UsageError
from imaging.files import open_picture
from imaging.images import to_image
from imaging.traces import Traces


@pytest.fixture
def shipped(place, monkeypatch):
    """A clean network and one for photographs of each of two kinds, and nothing trained."""
    monkeypatch.setattr(checkpoints, "PRETRAINED", place / "shipped")
    for degradation in ("bicubic", "photo"):
        for model, checkpoint in (("rrdb", make_rrdb(2)), ("srcnn", make_checkpoint())):
            path = place / "shipped" / f"{model}-{degradation}_x2.pt"
            save_checkpoint({**checkpoint, "model": model, "degradation": degradation}, path)
    return place / "shipped"


def as_jpeg(photograph, quality):
    file = io.BytesIO()
    to_image(photograph).save(file, "JPEG", quality=quality)
    return file


@pytest.fixture
def pictures(place, photograph):
    """The same photograph sound, as JPEG of two qualities, and as a PNG of a third."""
    to_image(photograph).save("sound.png")
    for quality in (60, 98):
        (place / f"q{quality}.jpg").write_bytes(as_jpeg(photograph, quality).getvalue())
    Image.open(as_jpeg(photograph, 40)).save("was.png")
    return {path.name: open_picture(path) for path in sorted(place.glob("*.*"))}


@pytest.mark.parametrize("traces, expected", [
    (Traces(None, 1.0, 0.0, False), "bicubic"),
    (Traces(None, 1.3, 0.0, False), "photo"),
    (Traces(None, 1.3, 3.0, True), "bicubic"),
    (Traces(None, 1.0, 3.0, False), "photo"),
    (Traces(None, 1.0, 12.0, False), "real"),
    (Traces(30, 1.0, 0.0, False), "real"),
    (Traces(97, 1.0, 0.0, False), "photo"),
    (Traces(98, 1.0, 0.0, False), "bicubic"),
    (Traces(98, 1.15, 0.0, False), "bicubic"),
    (Traces(98, 1.3, 0.0, False), "photo"),  # saved before with less
    (Traces(98, 1.0, 3.0, False), "photo"),
    (Traces(98, 1.0, 12.0, False), "real"),
    (Traces(75, 1.0, 12.0, False), "real"),
    (Traces(None, 1.0, 0.0, False, True), "photo"),
    (Traces(None, 1.0, 12.0, False, True), "real"),
    (Traces(None, 1.0, 0.0, True, True), "photo"),
    (Traces(60, 1.0, 0.0, True), "photo"),  # a small or plain one has few colours too
    (Traces(60, 1.0, 0.0, False), "photo"),  # JPEG with other places of its blocks, turned for instance
    (Traces(85, 1.2, 0.0, False), "photo"),
    (Traces(100, 1.0, 0.0, False), "bicubic"),
])  # fmt: skip
def test_traces_of_jpeg_decide(traces, expected):
    assert suiting(traces)[0] == expected


@pytest.mark.parametrize("traces, kind, degradation", [
    (Traces(None), "esrgan", "photo"),
    (Traces(None, plain=0.1), "esrgan", "photo"),
    (Traces(None, plain=0.3), "rrdb", "bicubic"),
    (Traces(None, plain=0.3, blocks=1.3), "rrdb", "photo"),
    (Traces(None, drawn=True), "rrdb", "bicubic"),
    (Traces(None, plain=0.3, lossy=True), "esrgan", "photo"),
    (Traces(None, noise=4.0), "esrgan", "photo"),
    (Traces(None, noise=8.0), "rrdb", "real"),
    (Traces(100), "esrgan", "photo"),
    (Traces(50, plain=0.3), "esrgan", "photo"),
    (Traces(40), "rrdb", "real"),
])  # fmt: skip
def test_photographs_get_what_looks_best_drawings_and_the_degraded_what_is_nearest(traces, kind, degradation):
    assert preferred(traces)[:2] == (kind, degradation)


def test_of_several_kinds_the_picture_gets_the_preferred_one_unless_one_is_named(shipped, place, pictures):
    for degradation in ("bicubic", "photo", "real"):
        checkpoint = {**make_rrdb(2), "model": "esrgan", "degradation": degradation}
        save_checkpoint(checkpoint, shipped / f"esrgan-{degradation}_x2.pt")
    save_checkpoint({**make_rrdb(2), "model": "rrdb", "degradation": "real"}, shipped / "rrdb-real_x2.pt")
    drawing = Image.new("RGB", (64, 64), "white")
    drawing.paste(Image.linear_gradient("L").resize((64, 24)), (0, 0))  # of many colours, and yet mostly plain
    drawing.save("drawing.png")
    Image.open("sound.png").save("q20.jpg", quality=20)
    pictures |= {name: open_picture(place / name) for name in ("drawing.png", "q20.jpg")}
    told: list[str] = []
    chooser = Chooser(None, tell=told.append)
    kinds = {name: chooser.for_picture(picture).checkpoint for name, picture in pictures.items()}
    assert {name: f"{one['model']}-{one['degradation']}" for name, one in kinds.items()} == {
        "sound.png": "esrgan-photo", "q98.jpg": "esrgan-photo", "q60.jpg": "esrgan-photo", "was.png": "esrgan-photo",
        "drawing.png": "rrdb-bicubic", "q20.jpg": "rrdb-real",
    }  # fmt: skip
    assert len(told) == 3 and "(esrgan-photo ×2; suits a JPEG of quality 60)" in told[0]
    named = Chooser("rrdb", tell=lambda _: None)
    assert {named.for_picture(picture).checkpoint["model"] for picture in pictures.values()} == {"rrdb"}


@pytest.mark.parametrize("model", [None, "rrdb", "srcnn"])
def test_each_picture_gets_what_suits_it_and_each_network_is_told_and_loaded_once(shipped, pictures, model):
    told: list[str] = []
    chooser = Chooser(model, tell=told.append)
    chosen = {name: chooser.for_picture(picture) for name, picture in pictures.items()}
    kind = model or "rrdb"
    assert all(one.checkpoint["model"] == kind for one in chosen.values())
    photo, clean = (f"shipped/{kind}-{degradation}_x2.pt" for degradation in ("photo", "bicubic"))
    assert [name for name, one in chosen.items() if one.checkpoint["degradation"] == "photo"] == ["q60.jpg", "was.png"]
    assert len({id(one.network) for one in chosen.values()}) == len(told) == 2
    assert told[0] == f"network: {photo} ({kind}-photo ×2; suits a JPEG of quality 60)"
    assert told[1] == f"network: {clean} ({kind} ×2; suits a JPEG of quality 98)"


def test_degraded_pictures_get_a_network_for_such_of_their_kind_else_one_for_photographs(shipped, place, photograph):
    (place / "q30.jpg").write_bytes(as_jpeg(photograph, 30).getvalue())
    picture = open_picture(place / "q30.jpg")
    told: list[str] = []
    Chooser(None, tell=told.append).for_picture(picture)
    assert told == ["network: shipped/rrdb-photo_x2.pt (rrdb-photo ×2; suits a JPEG of quality 30)"]
    degraded = {**make_rrdb(2), "model": "rrdb", "degradation": "real"}
    save_checkpoint(degraded, shipped / "rrdb-real_x2.pt")
    for model, degradation in ((None, "real"), ("rrdb", "real"), ("srcnn", "photo")):
        checkpoint = Chooser(model, tell=told.append).for_picture(picture).checkpoint
        assert (checkpoint["model"], checkpoint["degradation"]) == (model or "rrdb", degradation)
    assert told[1] == "network: shipped/rrdb-real_x2.pt (rrdb-real ×2; suits a JPEG of quality 30)"


@pytest.mark.parametrize("model", ["rrdb", "srcnn"])
def test_for_another_degraded_picture_no_file_is_opened_again(shipped, place, photograph, pictures, monkeypatch, model):
    """Of rrdb there is a network for such, of srcnn one for photographs stands in, for those too."""
    (place / "q30.jpg").write_bytes(as_jpeg(photograph, 30).getvalue())
    save_checkpoint({**make_rrdb(2), "model": "rrdb", "degradation": "real"}, shipped / "rrdb-real_x2.pt")
    told: list[str] = []
    chooser = Chooser(model, tell=told.append)
    first, photo = (chooser.for_picture(one) for one in (open_picture(place / "q30.jpg"), pictures["q60.jpg"]))
    assert (first is photo) == (model == "srcnn") and len(told) == len({id(first), id(photo)})
    for name in ("fitting_heads", "load_checkpoint"):
        monkeypatch.setattr(choosing, name, lambda *_, **__: pytest.fail("a file was opened"))
    assert chooser.for_picture(open_picture(place / "q30.jpg")) is first


def test_films_get_the_fast_network(shipped, place, pictures):
    def film(lossless):
        return SimpleNamespace(lossless=lossless)

    assert Chooser(None).for_film(film(False)).checkpoint["model"] == "rrdb"  # where no fast one ships
    network = SRVGGNetCompact(2, 4, 1)
    fast = {**make_rrdb(2), "model": "srvgg", "degradation": "photo"}
    fast |= {"shape": network.shape, "params": network.state_dict()}
    save_checkpoint(fast, shipped / "srvgg-photo_x2.pt")
    told: list[str] = []
    chooser = Chooser(None, tell=told.append)
    lossy, clean = (chooser.for_film(film(lossless)).checkpoint for lossless in (False, True))
    assert [(one["model"], one["degradation"]) for one in (lossy, clean)] == [("srvgg", "photo"), ("rrdb", "bicubic")]
    assert "suits a film)" in told[0] and "suits a film stored without loss)" in told[1]
    picture = chooser.for_picture(pictures["q60.jpg"])  # beside a film, as a folder may have both
    assert (picture.checkpoint["model"], picture.checkpoint["degradation"]) == ("rrdb", "photo")
    assert Chooser("srcnn").for_film(film(False)).checkpoint["model"] == "srcnn"


@pytest.mark.parametrize("model", [None, "srcnn"])
def test_what_does_not_suit_is_not_said_to_and_is_loaded_once(shipped, pictures, model):
    (shipped / "rrdb-photo_x2.pt").unlink()
    (shipped / "srcnn-photo_x2.pt").unlink()
    told: list[str] = []
    chooser = Chooser(model, tell=told.append)
    assert chooser.for_picture(pictures["q60.jpg"]) is chooser.for_picture(pictures["sound.png"])
    kind = model or "rrdb"
    named = f"shipped/{kind}-bicubic_x2.pt ({kind} ×2; none of its kind suits a JPEG of quality 60)"
    assert told == [f"network: {named}"]


def test_a_file_and_ones_own_network_and_a_mixture_are_for_all_pictures(shipped, place, pictures):
    named = shipped / "srcnn-photo_x2.pt"
    for arguments, name in (((str(named),), "srcnn"), (("rrdb", shipped / "rrdb-photo_x2.pt"), "rrdb")):
        chooser = Chooser(*arguments, tell=lambda _: None)
        assert chooser.fixed and chooser.fixed.checkpoint["model"] == name
        assert {id(chooser.for_picture(picture)) for picture in pictures.values()} == {id(chooser.fixed)}
    save_checkpoint(make_checkpoint(), place / "models" / "srcnn_x2.mine.pt")
    own = Chooser(None, tell=lambda _: None)
    assert own.fixed and own.fixed.told.startswith("models/srcnn_x2.mine.pt")
    assert Chooser("rrdb", tell=lambda _: None).fixed is None  # none of one's own is of that kind


@pytest.mark.parametrize("name", ["shipped", "shipped/", "models/../shipped"])
def test_the_folder_of_what_ships_lets_the_picture_choose_and_keeps_ones_own_aside(shipped, place, pictures, name):
    before: list[str] = []
    chooser = Chooser(None, tell=before.append)
    expected = [chooser.for_picture(picture).told for picture in pictures.values()]
    for model, degradation in (("srcnn", "bicubic"), ("rrdb", "bicubic"), ("rrdb", "photo"), ("esrgan", "photo")):
        checkpoint = make_checkpoint() if model == "srcnn" else make_rrdb(2)
        path = place / "models" / f"{model}-{degradation}_x2.mine.pt"
        save_checkpoint({**checkpoint, "model": model, "degradation": degradation}, path)
    told: list[str] = []
    chooser = Chooser(name, tell=told.append)
    assert chooser.fixed is None
    assert [chooser.for_picture(picture).told for picture in pictures.values()] == expected and told == before
    assert choose_network(name).told.endswith("shipped/rrdb-bicubic_x2.pt (rrdb ×2)")  # for evaluate and export
    mixed = Chooser(name, shipped / "rrdb-photo_x2.pt", tell=told.append)
    assert mixed.fixed and "shipped/rrdb-bicubic_x2.pt" in mixed.fixed.told


def test_the_folder_of_what_ships_has_its_name_from_elsewhere_too(shipped, place, monkeypatch):
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    name = f"{place.name}/shipped"  # as models/pretrained in the program's own folder
    assert choosing.names_what_ships(name) and Chooser(name, tell=lambda _: None).fixed is None
    (place / "elsewhere" / name).mkdir(parents=True)  # somebody's own folder of that name
    assert not choosing.names_what_ships(name) and not choosing.names_what_ships("shipped")


def test_where_there_is_no_network_it_is_said_how_to_get_one(place, pictures, monkeypatch):
    monkeypatch.setattr(checkpoints, "PRETRAINED", place / "shipped")
    with pytest.raises(UsageError, match="train -m rrdb -e 20"):
        Chooser("rrdb").for_picture(pictures["sound.png"])
    with pytest.raises(UsageError, match="--alpha"):
        Chooser(None, alpha=0.5)


def test_of_those_that_ship_the_best_for_an_ordinary_photograph_comes_first(place, monkeypatch):
    monkeypatch.setattr(checkpoints, "MODELS", place / "models")
    monkeypatch.setattr(checkpoints, "PRETRAINED", place / "shipped")
    assert find_trained() is None
    kinds = ("rrdb", "bicubic"), ("srcnn", "bicubic"), ("srcnn", "real"), ("esrgan", "real"), ("esrgan", "bicubic")
    for model, degradation in kinds:
        checkpoint = make_checkpoint(degradation=degradation) if model == "srcnn" else make_rrdb(2)
        checkpoint |= {"model": model, "degradation": degradation}
        save_checkpoint(checkpoint, place / "shipped" / f"{model}-{degradation}_x2.pt")
    assert find_trained()[0].name == "rrdb-bicubic_x2.pt"
    assert find_trained(degradation="real")[0].name == "esrgan-real_x2.pt"  # srcnn-real has no place in the order: last
    assert find_trained(model="srcnn")[0].name == "srcnn-bicubic_x2.pt"
    for scale in (8, 4):
        save_checkpoint(make_rrdb(scale), place / "shipped" / f"rrdb-bicubic_x{scale}.pt")
    assert find_trained()[0].name == "rrdb-bicubic_x8.pt" and find_trained(scale=2)[0].name == "rrdb-bicubic_x2.pt"
    save_checkpoint(make_checkpoint(), place / "models" / "srcnn_x2.mine.pt")
    assert find_trained()[0].name == "srcnn_x2.mine.pt" and find_trained(model="rrdb")[0].name == "rrdb-bicubic_x8.pt"


def test_weights_of_another_name_are_told(shipped, place, capsys):
    """Renamed, or from elsewhere: a training that goes on must not write over them."""
    save_checkpoint(make_checkpoint(), place / "models" / "mine.pt")
    torch.save(make_rrdb(4)["params"], place / "models" / "community.pth")
    (place / "models" / "notes.pt").write_text("no weights")
    for _ in range(2):
        assert choose_network(None).told.startswith("shipped/")
    told = capsys.readouterr().err
    assert [told.count(f"passed over: models/{name}: is not called as") for name in ("mine.pt", "community.pth")] == [
        1,
        1,
    ]
    assert "to use it, name it: -m models/mine.pt" in told and told.count("\n") == 2
    save_checkpoint(make_checkpoint(), place / "models" / "mine.pt")  # another one
    choose_network("rrdb")
    assert not capsys.readouterr().err  # it is an srcnn
    choose_network("srcnn")
    assert "models/mine.pt" in capsys.readouterr().err
    assert choose_network("models/mine.pt").told.startswith("models/mine.pt") and not capsys.readouterr().err


def test_after_a_first_training_a_better_network_that_ships_is_named(place, monkeypatch):
    monkeypatch.setattr(checkpoints, "PRETRAINED", place / "shipped")
    save_checkpoint(make_checkpoint(), place / "models" / "srcnn_x2.mine.pt")
    assert "better" not in choose_network(None).told  # none ships
    better = make_rrdb(2)
    save_checkpoint(make_rrdb(4), place / "shipped" / "rrdb_x4.pt")
    assert "better" not in choose_network(None).told  # that one enlarges ×4
    save_checkpoint(better, place / "shipped" / "rrdb_x2.pt")
    assert choose_network(None).told == "models/srcnn_x2.mine.pt (srcnn ×2; a better one ships: -m shipped)"
    assert "better" not in choose_network("srcnn").told  # it was asked for
    save_checkpoint(better, place / "models" / "rrdb_x2.mine.pt")
    assert "better" not in choose_network(None).told
