"""Miniature copies of the official layouts, written by the tests down to the form of each line."""

import re

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from helpers import benchmarks
from helpers.benchmarks import BENCHMARKS, load_benchmark


def picture(path, label):
    """A small picture whose red tells the label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 6), (label, 0, 0)).save(path, format="PNG")  # without loss, whatever the suffix


def labels_seen(files):
    return files[:][:, 0, 0, 0].tolist()


# CUB-200-2011


@pytest.fixture
def cub(tmp_path):
    folder = tmp_path / "CUB_200_2011"
    names = {
        1: ("001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg", 1),
        2: ("001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg", 1),
        3: ("100.Brown_Pelican/Brown_Pelican_0001_94469.jpg", 100),
        4: ("101.White_Pelican/White_Pelican_0003_97604.jpg", 101),
        5: ("200.Common_Yellowthroat/Common_Yellowthroat_0003_190521.jpg", 200),
        6: ("200.Common_Yellowthroat/Common_Yellowthroat_0049_190708.jpg", 200),
    }
    for name, label in names.values():
        picture(folder / "images" / name, label)
    (folder / "images.txt").write_text(
        "".join(f"{i} {name}\n" for i, (name, _) in names.items()), encoding="utf-8"
    )
    (folder / "image_class_labels.txt").write_text(
        "".join(f"{i} {k}\n" for i, (_, k) in names.items()), encoding="utf-8"
    )
    (folder / "train_test_split.txt").write_text(
        "".join(f"{i} {i % 2}\n" for i in names), encoding="utf-8"
    )  # classification's
    return folder


def test_cub_has_its_first_hundred_classes_for_training(cub):
    loaded = load_benchmark("cub_200_2011", cub, size=8, complete=False)
    assert loaded.y_train.tolist() == [1, 1, 100] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [101, 200, 200] == labels_seen(loaded.x_query)
    assert loaded.x_gallery is None and loaded.y_gallery is None
    assert loaded.x_train.shape == (3, 8, 8, 3) and loaded.y_train.dtype == np.int64
    assert loaded.x_train.paths[0].name == "Black_Footed_Albatross_0046_18.jpg"


def test_cub_pairs_the_two_lists_by_the_images_number(cub):
    path = cub / "image_class_labels.txt"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(reversed(lines)), encoding="utf-8")
    loaded = load_benchmark("cub_200_2011", cub, size=8, complete=False)
    assert loaded.y_train.tolist() == labels_seen(loaded.x_train) == [1, 1, 100]


def test_cub_lists_of_different_images_are_refused(cub):
    with open(cub / "images.txt", "a", encoding="utf-8") as file:
        file.write("7 200.Common_Yellowthroat/another.jpg\n")
    with pytest.raises(ValueError, match="do not list the same images"):
        load_benchmark("cub_200_2011", cub, complete=False)


# Cars196


CARS = [  # original file name, class, and the flag of classification's own division
    ("car_ims/000001.jpg", 1, 0),
    ("car_ims/000002.jpg", 1, 1),
    ("car_ims/008054.jpg", 98, 0),
    ("car_ims/008055.jpg", 99, 1),
    ("car_ims/016184.jpg", 196, 0),
    ("car_ims/016185.jpg", 196, 1),
]


def write_matlab_annotations(folder, cars):
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    annotations = np.empty((1, len(cars)), dtype=[(field, object) for field in fields])
    for i, (name, label, flag) in enumerate(cars):
        annotations[0, i] = (name, 112, 7, 853, 717, label, flag)
        picture(folder / name, label)
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": np.array([["a"]], object)})


def test_cars_of_the_original_archive(tmp_path):
    write_matlab_annotations(tmp_path, CARS)
    loaded = load_benchmark("cars196", tmp_path, size=8, complete=False)
    assert loaded.y_train.tolist() == [1, 1, 98] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [99, 196, 196] == labels_seen(loaded.x_query)
    assert loaded.x_gallery is None


def test_cars_of_the_copy_by_classes(tmp_path):
    names = [f"Maker Model {i} 2012" for i in range(1, 197)]
    names[97], names[98], names[172] = (
        "Eagle Talon Hatchback 1998",
        "FIAT 500 Abarth 2012",
        "Ram C/V Cargo Van 2012",
    )
    (tmp_path / "names.csv").write_text("\n".join(names), encoding="utf-8")
    rows = {
        "train": [("00001.jpg", 14), ("00002.jpg", 98), ("00003.jpg", 173)],
        "test": [("00001.jpg", 99), ("00002.jpg", 14)],  # the same file name again, in the other part
    }
    for part, cars in rows.items():
        (tmp_path / f"anno_{part}.csv").write_text(
            "".join(f"{file},39,116,569,375,{k}\n" for file, k in cars), encoding="utf-8"
        )
        for file, label in cars:
            folder = names[label - 1].replace("/", "-")
            picture(tmp_path / "car_data/car_data" / part / folder / file, label)
    loaded = load_benchmark("cars196", tmp_path, size=8, complete=False)
    assert loaded.y_train.tolist() == [14, 98, 14] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [173, 99] == labels_seen(loaded.x_query)


def test_cars_in_a_folder_for_each_model(tmp_path):
    models = [
        "AM General Hummer SUV 2000",
        *(f"Audi {i:03}" for i in range(96)),
        "Eagle Talon Hatchback 1998",
    ]
    models += ["FIAT 500 Abarth 2012", "Ferrari FF Coupe 2012", "smart fortwo Convertible 2012"]
    for number, model in enumerate(models, 1):
        picture(tmp_path / ("train" if number % 2 else "test") / model / "00001.jpg", number)
    picture(tmp_path / "test" / models[0] / "00009.jpg", 1)  # a model in both parts is one class
    loaded = load_benchmark("cars196", tmp_path, size=8, complete=False)
    assert sorted(loaded.y_train.tolist()) == [1, *range(1, 99)] == sorted(labels_seen(loaded.x_train))
    assert loaded.y_query.tolist() == [99, 100, 101] == labels_seen(loaded.x_query)
    assert loaded.x_query.paths[0].parent.name == "FIAT 500 Abarth 2012"


def test_cars_without_any_known_form_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"neither cars_annos\.mat nor names\.csv nor a folder"):
        load_benchmark("cars196", tmp_path)


def test_one_car_alone_is_read(tmp_path):
    """MATLAB files do not tell one from a list of one."""
    write_matlab_annotations(tmp_path, CARS[:1])
    with pytest.raises(ValueError, match="has no picture for query"):
        load_benchmark("cars196", tmp_path, complete=False)


# Stanford Online Products


@pytest.fixture
def products(tmp_path):
    folder = tmp_path / "Stanford_Online_Products"
    title = "image_id class_id super_class_id path\n"
    train = [(1, 1, 1, "bicycle_final/111085122871_0.JPG"), (2, 1, 1, "bicycle_final/111085122871_1.JPG"),
             (3, 2, 7, "lamp_final/111265328556_0.JPG")]  # fmt: skip
    test = [(4, 9, 1, "bicycle_final/251952414262_0.JPG"), (5, 9, 1, "bicycle_final/251952414262_1.JPG")]
    for name, rows in (("train", train), ("test", test)):
        (folder / "lamp_final").mkdir(parents=True, exist_ok=True)
        (folder / f"Ebay_{name}.txt").write_text(
            title + "".join(" ".join(map(str, row)) + "\n" for row in rows), encoding="utf-8"
        )
        for _, label, _, path in rows:
            picture(folder / path, label)
    return folder


def test_products(products):
    loaded = load_benchmark("stanford_online_products", products, size=(4, 6), complete=False)
    assert loaded.y_train.tolist() == [1, 1, 2] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [9, 9] == labels_seen(loaded.x_query)
    assert loaded.x_gallery is None and loaded.x_query.shape == (2, 4, 6, 3)


def test_line_with_a_word_too_few_is_named(products):
    with open(products / "Ebay_test.txt", "a", encoding="utf-8") as file:
        file.write("\n6 9 bicycle_final/251952414262_2.JPG\n")
    with pytest.raises(ValueError, match=r"Ebay_test\.txt, line 5: expected 4 words, found 3"):
        load_benchmark("stanford_online_products", products, complete=False)


def test_class_in_both_parts_is_refused(products):
    text = (products / "Ebay_test.txt").read_text(encoding="utf-8")
    (products / "Ebay_test.txt").write_text(text.replace("4 9 1", "4 2 1"), encoding="utf-8")
    with pytest.raises(
        ValueError, match="1 classes of stanford_online_products are in training and in test, 2 for"
    ):
        load_benchmark("stanford_online_products", products, complete=False)


# In-Shop


IN_SHOP = [
    ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", 2, "train"),
    ("img/WOMEN/Dresses/id_00000002/02_2_side.jpg", 2, "train"),
    ("img/WOMEN/Blouses_Shirts/id_00000001/02_1_front.jpg", 1, "query"),
    ("img/WOMEN/Blouses_Shirts/id_00000001/02_2_side.jpg", 1, "gallery"),
    ("img/MEN/Denim/id_00000080/01_1_front.jpg", 80, "query"),
    ("img/MEN/Denim/id_00000080/01_7_additional.jpg", 80, "gallery"),
]


def write_in_shop(folder, rows, below=""):
    """The list is set in columns, as the original is."""
    (folder / "Eval").mkdir(parents=True, exist_ok=True)
    lines = [f"{len(rows)}", "image_name item_id evaluation_status"]
    lines += [f"{path:<78}id_{item:08}  {part}" for path, item, part in rows]
    (folder / "Eval/list_eval_partition.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for path, item, _ in rows:
        picture(folder / below / path, item)


@pytest.mark.parametrize("below", ["", "Img"])
def test_in_shop_has_a_gallery_of_its_own(tmp_path, below):
    write_in_shop(tmp_path, IN_SHOP, below)
    loaded = load_benchmark("in_shop", tmp_path, size=8, complete=False)
    assert loaded.y_train.tolist() == [2, 2] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [1, 80] == labels_seen(loaded.x_query)
    assert loaded.y_gallery.tolist() == [1, 80] == labels_seen(loaded.x_gallery)


def test_in_shop_with_another_part_is_refused(tmp_path):
    write_in_shop(tmp_path, [*IN_SHOP, ("img/MEN/Denim/id_00000081/01_1_front.jpg", 81, "valid")])
    with pytest.raises(ValueError, match="'valid' is neither train nor query nor gallery"):
        load_benchmark("in_shop", tmp_path, complete=False)


# All of them


def test_official_numbers_are_the_published_ones():
    """As in the papers' descriptions of the data, and adding up to the whole sets."""
    official = {name: counts for name, (_, counts) in BENCHMARKS.items()}
    images = {name: sum(n for n, _ in counts.values()) for name, counts in official.items()}
    assert images == {
        "cub_200_2011": 11_788, "cars196": 16_185, "stanford_online_products": 120_053, "in_shop": 52_712,
    }  # fmt: skip
    assert official["cub_200_2011"] == {"train": (5_864, 100), "query": (5_924, 100)}
    assert official["cars196"] == {"train": (8_054, 98), "query": (8_131, 98)}
    assert official["stanford_online_products"] == {"train": (59_551, 11_318), "query": (60_502, 11_316)}
    in_shop = {"train": (25_882, 3_997), "query": (14_218, 3_985), "gallery": (12_612, 3_985)}
    assert official["in_shop"] == in_shop


def test_part_of_a_benchmark_is_refused_unless_asked_for(cub):
    expected = "The official train part of cub_200_2011 has 5,864 images of 100 classes, this folder 3 of 2."
    with pytest.raises(ValueError, match=re.escape(expected)):
        load_benchmark("cub_200_2011", cub)


def test_complete_benchmark_is_accepted(cub, monkeypatch):
    read = BENCHMARKS["cub_200_2011"][0]
    monkeypatch.setitem(benchmarks.BENCHMARKS, "cub_200_2011", (read, {"train": (3, 2), "query": (3, 2)}))
    loaded = load_benchmark("cub_200_2011", str(cub))
    assert loaded.x_train.shape == (3, 224, 224, 3) and loaded.x_train.options["fit"] == "crop"
    assert load_benchmark("cub_200_2011", cub, fit="pad").x_query.options["fit"] == "pad"


def test_missing_pictures_are_counted_and_one_is_named(cub):
    (cub / "images/101.White_Pelican/White_Pelican_0003_97604.jpg").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 of the 3 pictures of query are missing, .*White_Pelican_0003"
    ):
        load_benchmark("cub_200_2011", cub, complete=False)


@pytest.mark.parametrize("name", ["cub_200_2011", "stanford_online_products", "in_shop"])
def test_missing_list_is_named(tmp_path, name):
    with pytest.raises(
        FileNotFoundError, match=r"(images|Ebay_train|list_eval_partition)\.txt is missing\. Unpack"
    ):
        load_benchmark(name, tmp_path)


def test_unknown_benchmark_is_refused_with_the_known_ones(tmp_path):
    message = (
        "No benchmark is called 'CUB'. Choose one of "
        "'cub_200_2011', 'cars196', 'stanford_online_products', 'in_shop'."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        load_benchmark("CUB", tmp_path)


def test_agrees_with_pytorch_metric_learnings_reading(cub):
    """The same paths and labels as its `CUB` dataset, whose few lines are repeated here."""
    with (
        open(cub / "image_class_labels.txt", encoding="utf-8") as labels,
        open(cub / "images.txt", encoding="utf-8") as names,
    ):
        pairs = [(name.split()[1], int(label.split()[1])) for label, name in zip(labels, names, strict=True)]
    loaded = load_benchmark("cub_200_2011", cub, size=8, complete=False)
    for files, numbers, classes in (
        (loaded.x_train, loaded.y_train, range(1, 101)),
        (loaded.x_query, loaded.y_query, range(101, 201)),
    ):
        expected = [(cub / "images" / name, label) for name, label in pairs if label in classes]
        assert list(zip(files.paths, numbers.tolist(), strict=True)) == expected


# What travels with an archive, and what an editor leaves in a list


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "names", [["images.txt"], ["image_class_labels.txt"], ["images.txt", "image_class_labels.txt"]]
)
def test_byte_order_mark_in_birds_lists(cub, names):
    for name in names:
        (cub / name).write_bytes(BOM + (cub / name).read_bytes())
    loaded = load_benchmark("cub_200_2011", cub, size=8, complete=False)
    assert loaded.y_train.tolist() == [1, 1, 100] == labels_seen(loaded.x_train)


def test_byte_order_mark_and_carriage_returns_in_cars_lists(tmp_path):
    names = [f"Maker Model {i} 2012" for i in range(1, 197)]
    (tmp_path / "names.csv").write_bytes(BOM + "\r\n".join(names).encode())
    for part, label in (("train", 1), ("test", 99)):
        (tmp_path / f"anno_{part}.csv").write_bytes(
            BOM + f"00001.jpg,39,116,569,375,{label}\r\n\r\n".encode()
        )
        picture(tmp_path / "car_data/car_data" / part / names[label - 1] / "00001.jpg", label)
    loaded = load_benchmark("cars196", tmp_path, size=8, complete=False)
    assert loaded.y_train.tolist() == [1] == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [99] == labels_seen(loaded.x_query)
    (tmp_path / "anno_test.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"anno_test\.csv is missing\. Unpack the whole archive"):
        load_benchmark("cars196", tmp_path, complete=False)


def test_list_that_is_no_utf8_is_named(products):
    text = (products / "Ebay_train.txt").read_text(encoding="utf-8")
    (products / "Ebay_train.txt").write_text(text, encoding="utf-16")
    with pytest.raises(ValueError, match=r"Ebay_train\.txt is not a text in UTF-8"):
        load_benchmark("stanford_online_products", products, complete=False)


def test_what_macos_adds_to_an_archive_is_no_car(tmp_path):
    models = [f"Audi {i:03}" for i in range(99)]
    for number, model in enumerate(models, 1):
        picture(tmp_path / "train" / model / "00001.jpg", number)
    for extra in (f"__MACOSX/train/{models[3]}/._00001.jpg", f"train/{models[4]}/._00001.jpg",
                  "__MACOSX/train/A car of no maker/00001.jpg", ".cache/A thumbnail/00001.jpg"):  # fmt: skip
        (tmp_path / extra).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / extra).write_bytes(b"\0\5\x16\7no picture")
    loaded = load_benchmark("cars196", tmp_path, size=8, complete=False)
    assert loaded.y_train.tolist() == list(range(1, 99)) == labels_seen(loaded.x_train)
    assert loaded.y_query.tolist() == [99] == labels_seen(loaded.x_query)
