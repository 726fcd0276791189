"""Folders of images by class against the arrays that were written into them."""

import hashlib
import os
import pathlib
import re
import sys
import types

import numpy as np
import pytest

from larq_filter import datasets
from larq_filter._keras import tf
from larq_filter.datasets import folders, image_files, pipelines, sources

RANDOM = np.random.default_rng(0)


def png(image):
    return tf.io.encode_png(image).numpy()


def noise(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def pets(root, count=20, shape=(6, 5, 3), names=("dog", "cat")):
    """`count` images a class; the arrays by their paths."""
    images = {f"{name}/{i}.png": noise(*shape) for name in names for i in range(count)}
    for path, image in images.items():
        write(root / path, png(image))
    return images


def collect(data):
    images, labels = zip(*data.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def parts_of(data):
    """(raw pixels, labels) of each part."""
    parts = data.train(data.train_examples, seed=0, augment=False), data.validation(7), data.test(7)
    found = map(collect, parts)
    return [(np.round(i * data.std + data.mean).astype(np.uint8), labels) for i, labels in found]


def share(name):
    """Where an image stands between 0 and 1."""
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12


def test_a_folder_gives_what_was_written(tmp_path):
    images = pets(tmp_path)
    data = datasets.load(tmp_path)
    assert data.class_names == ("cat", "dog") and data.input_shape == (6, 5, 3)
    expected = {"train": set(), "validation": set(), "test": set()}
    for path, image in images.items():
        part = "test" if share(path) < 0.1 else "validation" if share(path) < 0.2 else "train"
        label = ("cat", "dog").index(path.split("/")[0])
        expected[part].add((image.tobytes(), label))
    assert all(expected.values()), "too few images to tell anything"
    for (pixels, labels), part in zip(parts_of(data), expected.values(), strict=True):
        assert {(p.tobytes(), int(n)) for p, n in zip(pixels, labels, strict=True)} == part
        assert len(pixels) == len(part)


def test_an_image_that_is_added_moves_no_other():
    names = [f"{i}.png" for i in range(200)]
    before = folders.held_out("cat", names, ["test", "validation"])
    more = [f"new{i}.png" for i in range(50)]
    after = folders.held_out("cat", more + names, ["test", "validation"])
    assert {name: after.get(name) for name in names} == {name: before.get(name) for name in names}
    sizes = [list(before.values()).count(part) for part in ("test", "validation")]
    assert all(10 <= size <= 32 for size in sizes)  # 20 expected, deviation 4


@pytest.mark.parametrize("count", range(1, 8))
def test_small_classes_keep_training_images_and_fill_the_parts_they_can(count):
    for name in map(str, range(40)):
        files = [f"{i}.png" for i in range(count)]
        held = folders.held_out(name, files, ["test", "validation"])
        assert len(held) < count or (count == 1 and not held)
        if {*held.values()} != {"test", "validation"}:
            assert count - len(held) == 1, "there was an image to give"


def test_split_folders_are_the_parts(tmp_path):
    for part in ("Train", "val", "TEST"):
        images = pets(tmp_path / part, 3)
    data = datasets.load(str(tmp_path))
    assert (data.train_examples, data.validation_examples, data.test_examples) == (6, 6, 6)
    pixels, _ = parts_of(data)[2]
    assert {p.tobytes() for p in pixels} == {image.tobytes() for image in images.values()}


def test_what_the_split_folders_lack_is_held_out_of_training(tmp_path):
    pets(tmp_path / "train")
    pets(tmp_path / "test", 3)
    data = datasets.load(tmp_path)
    names = [f"{name}/{i}.png" for name in ("cat", "dog") for i in range(20)]
    held = sum(0.1 <= share(name) < 0.2 for name in names)
    assert (data.train_examples, data.validation_examples) == (40 - held, held)
    assert data.test_examples == 6


def test_the_first_images_of_a_part_are_of_all_classes(tmp_path):
    """Files lie class by class; a few of them tell about every class."""
    pets(tmp_path, 60, names=("ape", "bee", "cat"))
    data = datasets.load(tmp_path, image_size=4)
    few = data.first("validation", 12)
    images, labels = collect(few.validation(5))
    assert len(images) == few.validation_examples == 12 and set(labels) == {0, 1, 2}
    np.testing.assert_array_equal(images, collect(data.first("validation", 12).validation(12))[0])
    assert data.validation_examples > 12 and few.train_examples == data.train_examples
    with pytest.raises(ValueError, match="`count` is 18; it must lie in .* images for validation"):
        data.first("validation", data.validation_examples + 1)


def test_train_may_be_a_class_of_vehicles(tmp_path):
    pets(tmp_path, 12, names=("bus", "train"))
    assert datasets.load(tmp_path).class_names == ("bus", "train")


def test_files_of_every_kind(tmp_path, caplog):
    """Capitals, folders within, alpha channels, 16 bits; junk is passed over."""
    colour = noise(8, 8, 3)
    pets(tmp_path, 12, (8, 8, 3))
    write(tmp_path / "cat" / "A.PNG", png(noise(8, 8, 4)))
    write(tmp_path / "cat" / "deep" / "er" / "B.JPG", tf.io.encode_jpeg(colour).numpy())
    write(tmp_path / "cat" / "c.jpeg", tf.io.encode_jpeg(colour[..., :1]).numpy())
    write(tmp_path / "dog" / "d.png", png(noise(8, 8, 2)))
    write(tmp_path / "dog" / "e.Png", png(RANDOM.integers(0, 2**16, (8, 8, 3)).astype(np.uint16)))
    write(tmp_path / "dog" / "f.bmp", bmp(colour))
    write(tmp_path / "dog" / "g.gif", GIF)
    shades = noise(8, 8, 1)
    write(tmp_path / "dog" / "h.bmp", bmp(shades, [[i, i, i] for i in range(256)]))
    for junk in (".DS_Store", "cat/.DS_Store", "cat/._A.PNG", "__MACOSX/cat/x.png", "readme.txt"):
        write(tmp_path / junk, b"junk")
    listing = folders.read(tmp_path)
    files, _ = image_files.source(listing, 8)
    assert "PNG files of 16 bits a channel: 1, the first is dog/e.Png. Their upper 8" in caplog.text
    assert files.shape == (8, 8, 3) and sum(files.sizes.values()) == 24 + 8
    found = files._decode(str(tmp_path / "dog" / "f.bmp")).numpy()
    np.testing.assert_array_equal(found, colour)
    grey = files._decode(str(tmp_path / "cat" / "c.jpeg")).numpy()
    np.testing.assert_array_equal(grey, np.repeat(grey[..., :1], 3, axis=-1))
    grey = files._decode(str(tmp_path / "dog" / "h.bmp")).numpy()
    np.testing.assert_array_equal(grey, np.repeat(shades, 3, axis=-1))


def test_a_palette_is_not_taken_for_shades(tmp_path):
    """TensorFlow gives the numbers of its colours; of 8 bits they would pass for a grey image."""
    pets(tmp_path, 12)
    numbers = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    colours = [[200, i, 0] for i in range(64)]
    inverted = [[255 - i] * 3 for i in range(256)]
    write(tmp_path / "cat" / "colours.bmp", bmp(numbers, colours))
    write(tmp_path / "dog" / "named.png", bmp(numbers, inverted))
    with pytest.raises(ValueError, match="2 of 26 images") as error:
        datasets.load(tmp_path, image_size=4)
    for name in ("cat/colours.bmp", "dog/named.png"):
        assert f"{name} (a BMP with a palette, " in str(error.value)
        with pytest.raises(ValueError, match="save it as PNG"):
            image_files.image(tmp_path / name, (4, 4, 3))


GIF = (
    b"GIF89a\x08\x00\x08\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\x08\x00\x08\x00"
    b"\x00\x02\x07\x84\x8f\xa9\xcb\xed\x0f\x2b\x00;"
)


def bmp(image, palette=()):
    """Uncompressed, 24 bits, or 8 that number the colours of a palette; rows from the bottom."""
    height, width, channels = image.shape
    rows = b"".join(
        row[:, ::-1].tobytes().ljust(-(-width * channels // 4) * 4, b"\0") for row in image[::-1]
    )
    colours = b"".join(bytes([*colour[::-1], 0]) for colour in palette)
    begin = 54 + len(colours)
    numbers = [(begin + len(rows), 4), (0, 4), (begin, 4), (40, 4), (width, 4), (height, 4), (1, 2)]
    numbers += [(8 * channels, 2), (0, 4), (len(rows), 4), (0, 8), (len(palette), 4), (0, 4)]
    return b"BM" + b"".join(n.to_bytes(size, "little") for n, size in numbers) + colours + rows


def test_kinds_that_nobody_reads_are_said(tmp_path, said):
    pets(tmp_path, 12)
    write(tmp_path / "cat" / "x.webp", b"RIFF")
    write(tmp_path / "dog" / "y.webp", b"RIFF")
    datasets.load(tmp_path)
    assert any("passed over: .webp (2)" in line for line in said)


def test_copies_of_training_images_are_said(tmp_path, said):
    pets(tmp_path / "train", 12)
    images = pets(tmp_path / "test", 2)
    write(tmp_path / "train" / "cat" / "again.png", png(images["cat/0.png"]))
    datasets.load(tmp_path)
    (line,) = [line for line in said if "copies of training images" in line]
    assert "for test: 1" in line and "test/cat/0.png" in line


def test_all_grey_stays_grey(tmp_path):
    pets(tmp_path, 12, (6, 6, 1))
    data = datasets.load(tmp_path)
    assert data.input_shape == (6, 6, 1) and not data.augmentation.flip
    write(tmp_path / "cat" / "one.png", png(noise(6, 6, 3)))
    assert datasets.load(tmp_path).input_shape == (6, 6, 3)


def test_several_sizes_need_image_size(tmp_path):
    pets(tmp_path, 12)
    write(tmp_path / "train.png", b"")  # beside the classes: passed over
    large = noise(40, 30, 3)
    write(tmp_path / "cat" / "large.png", png(large))
    with pytest.raises(ValueError, match=r"5x6 \(24\), 30x40 \(1\)\. Pass image_size="):
        datasets.load(tmp_path)
    data = datasets.load(tmp_path, image_size=4)
    assert data.input_shape == (4, 4, 3)
    expected = tf.image.resize(large, (4, 4), antialias=True).numpy()
    expected = np.clip(np.rint(expected), 0, 255).astype(np.uint8).tobytes()
    assert expected in {p.tobytes() for pixels, _ in parts_of(data) for p in pixels}


def test_a_folder_that_can_not_be_entered_is_named(tmp_path, monkeypatch):
    """Its images would be missing, and nobody would know."""
    pets(tmp_path, 12)
    (tmp_path / "cat" / "more").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("more"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (datasets.load, lambda path: folders.images_in(path / "cat")):
        with pytest.raises(ValueError, match="cat/more can't be read: Permission denied"):
            read(tmp_path)


def test_unreadable_files_are_named_all_at_once(tmp_path, monkeypatch):
    pets(tmp_path, 12)
    good = (tmp_path / "cat" / "0.png").read_bytes()
    write(tmp_path / "cat" / "half.png", good[: len(good) // 2])
    write(tmp_path / "cat" / "empty.jpg", b"")
    write(tmp_path / "dog" / "text.png", b"not an image")
    os.symlink("nowhere", tmp_path / "dog" / "link.png")
    with pytest.raises(ValueError, match="4 of 28 images in .* can't be read") as error:
        datasets.load(tmp_path)
    for words in (
        "cat/half.png (Invalid PNG",
        "cat/empty.jpg (empty)",
        "dog/text.png (no PNG, JPEG, GIF or BMP)",
        "dog/link.png (No such file",
    ):
        assert words in str(error.value)
    assert "[Op:" not in str(error.value)
    monkeypatch.setattr(image_files, "MOST_NAMED", 1)
    with pytest.raises(ValueError, match="and 3 more"):
        datasets.load(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["cat/1.png"], "holds 1 class folder: cat. At least two"),
        (["cat/1.png", "dog/readme.txt"], "without an image: dog"),
        (["train/cat/1.png", "train/dog/1.png", "val/cow/1.png"], "does not: cow"),
        (["train/cat/1.png", "test/cat/1.png", "valid/cat/1.png"], "and others: valid"),
        (["train/cat/1.png", "train/dog/1.png", "test/1.png"], "test holds no class folders"),
        (["train/cat/1.png", "val/cat/1.png", "validation/cat/1.png"], "two of them for one part"),
        (
            ["train/cat/1.png", "train/dog/1.png", "valid/cat/1.png"],
            "holds train, valid, .*like parts",
        ),
        (["training/cat/1.png", "Dev/cat/1.png"], "Name the parts train, validation .or val. and"),
        (["cat/1.png", "dog/1.png"], "too few images to hold some out"),
    ],
)
def test_folders_that_are_refused(files, words, tmp_path):
    for name in files:
        write(tmp_path / name, png(noise(4, 4, 3)))
    with pytest.raises(ValueError, match=words):
        datasets.load(tmp_path)


def test_paths_that_are_no_data_set_say_what_is_there(tmp_path, monkeypatch):
    """Where TensorFlow Datasets would be asked, as names of sets have slashes too, and before."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "bare" / "a.PNG", png(noise(4, 4, 3)))
    write(tmp_path / "bare" / "b.jpg", b"")
    write(tmp_path / "texts" / "a.txt", b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "data.csv").touch()
    for name, words in {
        "bare": "bare holds 2 images, in no folder of a class. A data set is a folder with a",
        "texts": "texts holds no images. .* train/ and validation/ of such folders",
        "empty": "empty holds nothing. ",
        "data.csv": "data.csv holds no arrays: it is a file, and no .npz",
    }.items():
        with pytest.raises(ValueError, match=f"^{words}") as error:
            datasets.load(f"./{name}")
        assert len(str(error.value)) <= 200
    asked = types.SimpleNamespace(list_builders=lambda **_: ["mnist"])
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", asked)
    with pytest.raises(ValueError, match="^bare holds 2 images"):
        datasets.load("bare")
    for name in ("nofolder/x", "./x", tmp_path / "x"):
        path = re.escape(str(pathlib.Path(name)))
        with pytest.raises(FileNotFoundError, match=f"^there is no folder or file {path}$"):
            datasets.load(name)
    with pytest.raises(FileNotFoundError, match="^no prepared set 'mnist/x'"):
        datasets.load("mnist/x")


def test_a_link_that_leads_back_ends(tmp_path):
    pets(tmp_path, 12)
    os.symlink(tmp_path / "cat", tmp_path / "cat" / "again")
    listing = folders.read(tmp_path)
    assert sum(len(names) for names, _ in listing.parts.values()) == 24


def test_too_large_for_memory_is_decoded_on_the_way_and_is_the_same(tmp_path, monkeypatch):
    pets(tmp_path)
    held = datasets.load(tmp_path, train_examples=25)
    monkeypatch.setattr(sources, "MEMORY_LIMIT", 0)
    streamed = datasets.load(tmp_path, train_examples=25)
    assert type(held._source) is pipelines.Memory
    assert type(streamed._source) is image_files.Files
    assert held.fingerprint == streamed.fingerprint
    np.testing.assert_array_equal(held.mean, streamed.mean)
    for part in (
        lambda data: data.train(5, seed=3, first_epoch=1, epochs=3),
        lambda data: data.validation(4),
        lambda data: data.test(4),
    ):
        for one, other in zip(part(held), part(streamed), strict=True):
            np.testing.assert_array_equal(one[0], other[0])
            np.testing.assert_array_equal(one[1], other[1])


def test_what_changes_the_fingerprint_and_the_stamp(tmp_path):
    pets(tmp_path, 12)
    first, stamp = datasets.load(tmp_path), sources.stamp(tmp_path)
    assert datasets.load(tmp_path).fingerprint == first.fingerprint
    assert sources.stamp(tmp_path) == stamp
    write(tmp_path / "cat" / "0.png", png(noise(6, 5, 3)))
    assert datasets.load(tmp_path).fingerprint != first.fingerprint
    assert sources.stamp(tmp_path) != stamp and sources.stamp("digits") is None
