"""A folder of images by class: which classes, which files, and which part each image is of.

    pets/cat/1.jpg, pets/dog/2.png                       validation and test are held out
    pets/train/cat/1.jpg, pets/test/dog/2.png, ...       as named; what is missing is held out

The classes are the folders, in sorted order. A folder is one of parts if all folders in it are
`train` and some of `validation` (or `val`) and `test`, in small or capital letters.

**What is held out.** An image is named by its path within its class, and the hash of class and path
says where it goes: a tenth is for the test, a tenth for validation. So the parts are the same for
every seed and on every machine, and an image that is added moves no other. A class in which nothing
fell to a part gives it the training image of the smallest hash, if one more is left: the only case
in which an image added later moves another back. A class that lies in parts whole gives one to
training.

Rejected: an exact tenth of each class by rank, as sets in memory have it. One image more would move
others from training to the test, and two runs could not be compared.
"""

import collections
import dataclasses
import hashlib
import logging
import os
import pathlib
import unicodedata

logger = logging.getLogger(__name__)

SHARE = 0.1  # of the images of each class, for each part that is held out
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png")  # what TensorFlow decodes, in any case
PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
_OTHER_NAMES = ("training", "valid", "dev", "eval", "evaluation", "testing")  # of parts, elsewhere
_JUNK = ("__MACOSX", "Thumbs.db", "desktop.ini")


@dataclasses.dataclass(frozen=True)
class Listing:
    """Image files by part.

    Attributes:
        root: the folder.
        class_names: in the order of the labels.
        parts: `train`, `validation` and `test`, each (paths below the root, labels).
    """

    root: pathlib.Path
    class_names: tuple
    parts: dict


def holds_classes(folder) -> bool:
    """Whether `folder` is one that holds folders, so that it may be one of images by class."""
    path = pathlib.Path(folder).expanduser()
    return path.is_dir() and bool(_folders(path))


def no_data(path: pathlib.Path) -> Exception:
    """Why a path that holds no folders can't be a data set: what is there, and what is needed."""
    if not path.exists():
        return FileNotFoundError(f"there is no folder or file {path}")
    if path.is_dir():
        inside = [each for each in path.iterdir() if not _is_junk(each.name)]
        images = sum(map(_is_image, inside))
        count = f"{images} image{'s' * (images != 1)}" if images else "no images"
        found = f"{count}, in no folder of a class" if images else count
        found = found if inside else "nothing"
    else:
        found = "no arrays: it is a file, and no .npz file"
    return ValueError(
        f"{path} holds {found}. A data set is a folder with a folder of images for each class, or "
        "with train/ and validation/ of such folders; or an .npz file"
    )


def _is_image(path: pathlib.Path) -> bool:
    """Whether a path is that of a file which TensorFlow reads as an image, by its name."""
    return path.suffix.lower() in EXTENSIONS and not _is_junk(path.name) and path.is_file()


def images_in(folder: pathlib.Path) -> list:
    """The paths of the image files in a folder, at any depth, sorted; says what it passes over."""
    passed_over = collections.Counter()
    found = [folder / name for name in _images(folder, passed_over)]
    _say(folder, passed_over)
    return found


def stamp(folder) -> str:
    """Changes whenever a file in the folder does; opens none of them."""
    found = hashlib.sha256()
    for place, below, files in os.walk(pathlib.Path(folder).expanduser()):
        below.sort()
        for name in sorted(files):
            about = os.lstat(os.path.join(place, name))
            line = f"{place}/{name} {about.st_size} {about.st_mtime_ns}\n"
            found.update(line.encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def read(folder) -> Listing:
    """The image files of a folder; opens none of them.

    Raises:
        ValueError: less than two classes, a class without images, split folders that don't fit.
    """
    root = pathlib.Path(folder).expanduser()
    splits = _split_folders(root)
    found = {part: _classes(path) for part, path in splits.items()}
    names = tuple(sorted(found["train"]))
    if len(names) < 2:
        raise ValueError(
            f"{splits['train']} holds {len(names)} class folder{'s' * (len(names) != 1)}"
            f"{': ' * bool(names)}{', '.join(names)}. At least two are needed, each with the "
            "images of one class."
        )
    for part, classes in found.items():
        _refuse_misfits(splits[part], classes, names)
    missing = [part for part in ("test", "validation") if part not in found]
    parts = {part: [] for part in ("train", "validation", "test")}
    for part, classes in found.items():
        for name, files in classes.items():
            label, folder = names.index(name), (splits[part] / name).relative_to(root).as_posix()
            places = held_out(name, files, missing) if part == "train" else {}
            for file in files:
                parts[places.get(file, part)].append((f"{folder}/{file}", label))
    _refuse_empty_parts(root, parts)
    lists = {part: tuple(map(list, zip(*rows, strict=True))) for part, rows in parts.items()}
    return Listing(root, names, lists)


def held_out(class_name: str, files: list, parts: list) -> dict:
    """Which files of a class are for another part than training.

    Args:
        class_name: of the files.
        files: their paths within the class.
        parts: those to hold out, some of `test` and `validation`.

    Returns:
        The part, by file.
    """
    bounds = {"test": (0.0, SHARE), "validation": (SHARE, 2 * SHARE)}
    hashes = {file: _fraction(f"{class_name}/{file}") for file in files}
    left = sorted(files, key=lambda file: (hashes[file], file))
    places = {}
    for part in parts:
        low, high = bounds[part]
        places |= {file: part for file in left if low <= hashes[file] < high}
    left = [file for file in left if file not in places]
    for part in ("validation", "test"):
        if part in parts and part not in places.values() and len(left) > 1:
            places[left.pop(0)] = part
    if not left and places:
        del places[max(places, key=lambda file: hashes[file])]
    return places


def _fraction(name: str) -> float:
    """A number in [0, 1) that depends on the name alone, however its letters are composed."""
    text = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(text).digest()[:6], "big") / 2**48


def _split_folders(root: pathlib.Path) -> dict:
    """The folder of each part; the root itself for training where there are no such folders."""
    named = [path.name for path in _folders(root)]
    splits = [name for name in named if name.lower() in PARTS]
    others = [name for name in named if name.lower() not in PARTS]
    parts = [PARTS[name.lower()] for name in splits]
    if "train" not in parts or (others and len(splits) == 1):
        _refuse_other_names(root, named)
        return {"train": root}  # `train` among others is a class of vehicles
    if others:
        raise ValueError(
            f"{root} holds the split folders {', '.join(splits)} and others: {', '.join(others)}. "
            "Split folders are train, validation (or val) and test, and stand alone."
        )
    if len(set(parts)) < len(parts):
        raise ValueError(
            f"{root} holds {', '.join(splits)}, two of them for one part: keep one of the two."
        )
    return {part: root / name for part, name in zip(parts, splits, strict=True)}


def _refuse_other_names(root: pathlib.Path, named: list) -> None:
    """Raises where folders without an image of their own are named as parts are elsewhere."""
    wrong = [
        name
        for name in named
        if name.lower() in (*PARTS, *_OTHER_NAMES)
        and not any(map(_is_image, (root / name).iterdir()))
    ]
    if len(wrong) > 1:
        raise ValueError(
            f"{root} holds {', '.join(wrong)}, folders of folders: they look like parts of a data "
            "set, not like classes. Name the parts train, validation (or val) and test."
        )


def _folders(path: pathlib.Path) -> list:
    return sorted(each for each in path.iterdir() if each.is_dir() and not _is_junk(each.name))


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name in _JUNK


def _classes(folder: pathlib.Path) -> dict:
    """The sorted image files of each class, as paths within it; says what it passes over."""
    passed_over = collections.Counter()
    classes = {each.name: _images(each, passed_over) for each in _folders(folder)}
    _say(folder, passed_over)
    return classes


def _say(folder: pathlib.Path, passed_over: collections.Counter) -> None:
    if passed_over:
        kinds = ", ".join(f"{suffix} ({n})" for suffix, n in sorted(passed_over.items()))
        logger.warning(
            "%s: files that are no images TensorFlow reads (%s) are passed over: %s",
            *(folder, ", ".join(suffix[1:].upper() for suffix in EXTENSIONS), kinds),
        )


def _refuse(error: OSError) -> None:
    raise ValueError(
        f"{error.filename} can't be read: {error.strerror}. Make the folder readable, or take it "
        "away."
    ) from None


def _images(folder: pathlib.Path, passed_over: collections.Counter) -> list:
    found, seen = [], set()
    for place, below, files in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        below[:] = [] if real in seen else [name for name in below if not _is_junk(name)]
        if real in seen:  # a link that leads back
            continue
        seen.add(real)
        for name in files:
            suffix = pathlib.PurePath(name).suffix.lower()
            if _is_junk(name):
                continue
            if suffix in EXTENSIONS:
                found.append(pathlib.Path(place, name).relative_to(folder).as_posix())
            else:
                passed_over[suffix or "without extension"] += 1
    return sorted(found)


def _refuse_misfits(folder: pathlib.Path, classes: dict, names: tuple) -> None:
    """Raises for classes without images, and for those that training does not have."""
    if not classes:
        raise ValueError(
            f"{folder} holds no class folders, so nobody knows the labels. Put its images into "
            "folders of their classes, or take it away: then images of training are held out."
        )
    foreign = sorted(set(classes) - set(names))
    if foreign:
        raise ValueError(
            f"{folder} holds classes that the training folder does not: {', '.join(foreign)}. "
            f"There are {', '.join(names)}."
        )
    empty = [name for name in classes if not classes[name]]
    if empty:
        raise ValueError(
            f"{folder} holds class folders without an image: {', '.join(empty)}. Fill or remove "
            f"them; images are {', '.join(EXTENSIONS)}."
        )


def _refuse_empty_parts(root: pathlib.Path, parts: dict) -> None:
    empty = [part for part, rows in parts.items() if not rows]
    if empty:
        raise ValueError(
            f"{root} has too few images to hold some out for {' and '.join(empty)}. At least three "
            "images of a class are needed, or folders train, validation and test."
        )
