"""The field's four benchmarks, from the folders as they are published, with their official splits.

In all four no class of the test part occurs in training: what is measured is whether a network retrieves what it never
saw. The images are not part of the course; each loader's docstring says where they come from. Importing this module
starts no deep-learning framework.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.pictures import PictureFiles


class Benchmark(NamedTuple):
    """Training classes, and queries of other classes, with the gallery in which they search."""

    x_train: PictureFiles  # reads uint8 (N, height, width, 3) when indexed
    y_train: np.ndarray  # int64 (N,), the labels of the files, not renumbered
    x_query: PictureFiles
    y_query: np.ndarray
    x_gallery: PictureFiles | None  # None: the queries search each other, leave-one-out
    y_gallery: np.ndarray | None


def load_benchmark(name, folder, size=224, fit="crop", complete=True):
    """Load one of the benchmarks from the folder in which its archive was unpacked.

    Args:
        name: `"cub_200_2011"`, `"cars196"`, `"stanford_online_products"` or `"in_shop"`.
        folder: see `read_cub_200_2011`, `read_cars196`, `read_stanford_online_products`, `read_in_shop`.
        size: (height, width) at which the pictures are read, or one number for both.
        fit: `"crop"`, `"pad"` or `"stretch"`, as for `helpers.pictures.read_picture`.
        complete: insist on the official numbers of images and classes, because a result on a part of a benchmark
            compares with nobody's. `False` takes what is there.

    Returns:
        A `Benchmark`. Nothing but the lists has been read yet.

    Raises:
        ValueError: unknown name, a malformed list, classes in both training and test, or an incomplete benchmark.
        FileNotFoundError: a list, or a picture that it names, is missing.
    """
    if name not in BENCHMARKS:
        raise ValueError(
            f"No benchmark is called {name!r}. Choose one of {', '.join(map(repr, BENCHMARKS))}."
        )
    read, official = BENCHMARKS[name]
    parts = read(Path(folder))
    for part, records in parts.items():
        missing = [path for path, _ in records if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{len(missing):,} of the {len(records):,} pictures of {part} are missing, {missing[0]} for one. "
                "Unpack the whole archive, and give the folder that it makes."
            )
        if not records:
            raise ValueError(f"{name} has no picture for {part} in {folder}.")
        counts = len(records), len({label for _, label in records})
        if complete and counts != official[part]:
            raise ValueError(
                f"The official {part} part of {name} has {official[part][0]:,} images of {official[part][1]:,} "
                f"classes, this folder {counts[0]:,} of {counts[1]:,}. Unpack the whole archive, or pass "
                "complete=False, and compare the result with nobody's."
            )
    shared = {label for _, label in parts["train"]} & {label for _, label in parts["query"]}
    if shared:
        raise ValueError(
            f"{len(shared)} classes of {name} are in training and in test, {min(shared)} for one."
        )
    arrays = []
    for part in ("train", "query", "gallery"):
        if part in parts:
            paths, labels = zip(*parts[part], strict=True)
            arrays += [PictureFiles(paths, size, fit=fit), np.array(labels, dtype=np.int64)]
        else:
            arrays += [None, None]
    return Benchmark(*arrays)


def read_cub_200_2011(folder):
    """Caltech-UCSD Birds 200-2011: the first 100 classes for training, the other 100 for test.

    Args:
        folder: `CUB_200_2011`, with `images.txt` ("1 001.Black_footed_Albatross/….jpg"), `image_class_labels.txt`
            ("1 1") and `images/`. Its `train_test_split.txt` belongs to classification and is not used here.

    Returns:
        {"train": [(path, label), …], "query": …}, labels 1 to 200.

    Source: Wah, Branson, Welinder, Perona & Belongie, The Caltech-UCSD Birds-200-2011 Dataset, 2011
        (https://data.caltech.edu/records/65de6-vp158); the split: Oh Song et al., 2015 (arXiv 1511.06452).
    """
    names = dict(_rows(folder / "images.txt", 2))
    labels = dict(_rows(folder / "image_class_labels.txt", 2))
    if names.keys() != labels.keys():
        raise ValueError(f"images.txt and image_class_labels.txt in {folder} do not list the same images.")
    records = [(folder / "images" / name, int(labels[number])) for number, name in names.items()]
    return _split_by_class(records, 100)


def read_cars196(folder):
    """Stanford Cars: of the 196 models the first 98 for training, the other 98 for test.

    Three forms of the data are in use. Their own division into training and test belongs to classification, where both
    have all classes; here it is put together again.

    Args:
        folder: holds either the original `cars_annos.mat` with `car_ims/`; or the folders of the copy by classes
            (`names.csv`, `anno_train.csv`, `anno_test.csv`, and `car_data/car_data/train/Acura RL Sedan 2012/….jpg`);
            or just a folder for each model, which in alphabetical order have the official numbers' first 98 models
            (to the Eagle Talon) in front.

    Returns:
        {"train": [(path, label), …], "query": …}, labels 1 to 196.

    Source: Krause, Stark, Deng & Fei-Fei, 3D Object Representations for Fine-Grained Categorization, 3dRR 2013; the
        split: Oh Song et al., 2015 (arXiv 1511.06452); the copy by classes:
        https://www.kaggle.com/datasets/jutrera/stanford-car-dataset-by-classes-folder
    """
    if (folder / "cars_annos.mat").is_file():
        records = _cars_of_the_matlab_file(folder)
    elif (folder / "names.csv").is_file():
        records = _cars_of_the_copy_by_classes(folder)
    else:
        records = _cars_of_the_class_folders(folder)
    return _split_by_class(records, 98)


def _cars_of_the_matlab_file(folder):
    from scipy.io import loadmat  # comes with scikit-learn

    annotations = loadmat(folder / "cars_annos.mat", squeeze_me=True)["annotations"]
    return [(folder / str(row["relative_im_path"]), int(row["class"])) for row in np.atleast_1d(annotations)]


def _cars_of_the_copy_by_classes(folder):
    names = _lines(folder / "names.csv")
    records = []
    for part in ("train", "test"):
        for row in filter(None, _lines(folder / f"anno_{part}.csv")):
            file, *_box, label = row.split(",")
            model = (
                names[int(label) - 1].strip().strip('"').replace("/", "-")
            )  # "Ram C/V Cargo Van Minivan 2012"
            records.append((folder / "car_data" / "car_data" / part / model / file, int(label)))
    return records


def _cars_of_the_class_folders(folder):
    by_model = {}
    for path in sorted(folder.glob("**/*.jpg")):
        below = path.relative_to(folder).parts
        if "__MACOSX" in below or any(name.startswith(".") for name in below):
            continue  # what macOS adds to archives is named like a picture and is none
        by_model.setdefault(path.parent.name, []).append(path)
    if len(by_model) < 2:
        raise FileNotFoundError(
            f"{folder} holds neither cars_annos.mat nor names.csv nor a folder of .jpg files for each model."
        )
    return [(path, number) for number, model in enumerate(sorted(by_model), 1) for path in by_model[model]]


def read_stanford_online_products(folder):
    """Stanford Online Products: 11,318 products for training, 11,316 others for test.

    Args:
        folder: `Stanford_Online_Products`, with `Ebay_train.txt` and `Ebay_test.txt` (a line of titles, then
            "1 1 1 bicycle_final/111085122871_0.JPG": image, class, super-class, path) and the products' folders.

    Returns:
        {"train": [(path, label), …], "query": …}, labels 1 to 22,634.

    Source: Oh Song, Xiang, Jegelka & Savarese, Deep Metric Learning via Lifted Structured Feature Embedding, 2015
        (arXiv 1511.06452; https://cvgl.stanford.edu/projects/lifted_struct/).
    """
    return {
        part: [
            (folder / path, int(label)) for _, label, _, path in _rows(folder / f"Ebay_{file}.txt", 4, skip=1)
        ]
        for part, file in (("train", "train"), ("query", "test"))
    }


def read_in_shop(folder):
    """In-Shop Clothes Retrieval of DeepFashion: 3,997 items for training, 3,985 others as queries and as gallery.

    Args:
        folder: holds `Eval/list_eval_partition.txt` (the number of images, a line of titles, then
            "img/WOMEN/Dresses/id_00000002/02_1_front.jpg id_00000002 train") and the pictures, unpacked either
            there (`img/WOMEN/…`) or in the folder `Img` (`Img/img/WOMEN/…`).

    Returns:
        {"train": [(path, label), …], "query": …, "gallery": …}, the labels are the numbers of the items.

    Source: Liu, Luo, Qiu, Wang & Tang, DeepFashion: Powering Robust Clothes Recognition and Retrieval with Rich
        Annotations, CVPR 2016 (https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html).
    """
    parts = {"train": [], "query": [], "gallery": []}
    partition = folder / "Eval" / "list_eval_partition.txt"
    rows = _rows(partition, 3, skip=2)
    root = folder / "Img" if rows and (folder / "Img" / rows[0][0]).is_file() else folder
    for path, item, part in rows:
        if part not in parts:
            raise ValueError(f"{partition}: {part!r} is neither train nor query nor gallery.")
        parts[part].append((root / path, int(item.removeprefix("id_"))))
    return parts


# name -> how it is read, and the official (images, classes) of each part
BENCHMARKS = {
    "cub_200_2011": (read_cub_200_2011, {"train": (5864, 100), "query": (5924, 100)}),
    "cars196": (read_cars196, {"train": (8054, 98), "query": (8131, 98)}),
    "stanford_online_products": (
        read_stanford_online_products,
        {"train": (59551, 11318), "query": (60502, 11316)},
    ),
    "in_shop": (read_in_shop, {"train": (25882, 3997), "query": (14218, 3985), "gallery": (12612, 3985)}),
}


def _lines(path):
    """The lines of a UTF-8 text, without the byte-order mark that some editors put in front."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is missing. Unpack the whole archive, and give the folder that it makes."
        )
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text in UTF-8 ({error}). Unpack the archive again.") from error


def _rows(path, columns, skip=0):
    """The lines of a text file as lists of so many words, without the first `skip` lines and empty ones."""
    rows = []
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if number <= skip or not words:
            continue
        if len(words) != columns:
            raise ValueError(f"{path}, line {number}: expected {columns} words, found {len(words)}.")
        rows.append(words)
    return rows


def _split_by_class(records, last_of_training):
    return {
        "train": [(path, label) for path, label in records if label <= last_of_training],
        "query": [(path, label) for path, label in records if label > last_of_training],
    }
