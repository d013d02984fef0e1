import io

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from helpers import plots
from helpers.plots import plot_embedding, show, show_images, show_retrieval

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 6, 5, 1), dtype=np.uint8)


@pytest.fixture
def displayed(monkeypatch):
    """The pictures that a notebook would show."""
    pictures = []
    monkeypatch.setattr(plots, "display", pictures.append)
    return pictures


@pytest.fixture
def shown(monkeypatch):
    """The figures, still open, and their alternative texts."""
    figures = []
    monkeypatch.setattr(plots, "show", lambda figure, alt: figures.append((figure, alt)))
    yield figures
    plt.close("all")


# show


def test_figure_is_shown_as_png_with_alt_text_and_closed(displayed):
    figure, axis = plt.subplots()
    axis.plot([0, 1])
    show(figure, "a rising line")
    (picture,) = displayed
    data, metadata = picture._repr_png_()
    assert metadata["alt"] == "a rising line"
    pixels = plt.imread(io.BytesIO(data if isinstance(data, bytes) else __import__("base64").b64decode(data)))
    assert pixels.std() > 0
    assert (pixels[0, 0, :3] == 1).all()  # white, whatever the notebook's theme
    assert plt.get_fignums() == []


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_empty_alt_text_is_refused(displayed, alt):
    with pytest.raises(ValueError, match="Say in `alt` what the figure shows"):
        show(plt.figure(), alt)
    assert displayed == []
    assert plt.get_fignums() == []


# show_images


@pytest.mark.parametrize(("columns", "grid"), [(10, (1, 7)), (3, (3, 3)), (7, (1, 7)), (1, (7, 1))])
def test_images_fill_the_grid_row_by_row(shown, columns, grid):
    show_images(IMAGES, columns=columns)
    figure, _ = shown[0]
    rows, across = figure.axes[0].get_gridspec().get_geometry()
    assert (rows, across) == grid
    for axis, image in zip(figure.axes, IMAGES, strict=False):
        assert (axis.images[0].get_array() == image[..., 0]).all()
    assert all(not axis.images for axis in figure.axes[7:])
    assert all(not axis.axison for axis in figure.axes)


def test_titles_stand_above_the_images_and_in_the_alt_text(shown):
    show_images(IMAGES[:3], titles=["bag", 2, "coat"], title="Three")
    figure, alt = shown[0]
    assert [axis.get_title() for axis in figure.axes] == ["bag", "2", "coat"]
    assert figure.get_suptitle() == "Three"
    assert alt == "3 images: bag, 2, coat."


def test_titles_may_be_an_array(shown):
    show_images(IMAGES[:2], titles=np.array([4, 5]))
    assert shown[0][1] == "2 images: 4, 5."


def test_alt_text_of_images_without_titles_and_of_ones_own(shown):
    show_images(IMAGES)
    show_images(IMAGES, titles=list("abcdefg"), alt="seven letters")
    assert [alt for _, alt in shown] == ["7 images.", "seven letters"]


def test_grey_bytes_keep_their_brightness_and_other_numbers_are_stretched(shown):
    images = np.zeros((2, 4, 4, 1), dtype="uint8")
    images[0, 1, 1], images[1, 1, 1] = 200, 50
    show_images(images)
    show_images(images / 100)
    limits = [[axis.images[0].get_clim() for axis in figure.axes] for figure, _ in shown]
    assert limits == [[(0, 255), (0, 255)], [(0, 2), (0, 0.5)]]


@pytest.mark.parametrize("shape", [(2, 6, 5), (2, 6, 5, 1), (2, 6, 5, 3)])
def test_grey_and_colour_images_are_drawn(displayed, shape):
    show_images(np.zeros(shape, np.uint8))
    assert len(displayed) == 1


@pytest.mark.parametrize("images", [np.zeros((0, 6, 5, 1)), np.zeros((6, 5)), np.zeros(5), []])
def test_no_images_are_refused(images):
    with pytest.raises(ValueError, match="images must be "):
        show_images(images)


def test_as_many_titles_as_images():
    with pytest.raises(ValueError, match="7 images but 2 titles"):
        show_images(IMAGES, titles=["a", "b"])


# show_retrieval


def retrieval_strips(**kwargs):
    show_retrieval(
        IMAGES[:2], [0, 1], IMAGES[:6].reshape(2, 3, 6, 5, 1), np.array([[0, 1, 0], [0, 1, 1]]),
        ["bag", "coat"], title="Two queries", alt="strips", **kwargs,
    )  # fmt: skip


def test_strip_shows_query_gap_and_answers(shown):
    retrieval_strips()
    figure, alt = shown[0]
    assert (figure.get_suptitle(), alt) == ("Two queries", "strips")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["bag", "", "bag", "coat", "bag", "coat", "", "bag", "coat", "coat"]
    assert [len(axis.images) for axis in figure.axes] == [1, 0, 1, 1, 1] * 2
    assert (figure.axes[2].images[0].get_array() == IMAGES[0, ..., 0]).all()
    assert (figure.axes[9].images[0].get_array() == IMAGES[5, ..., 0]).all()


def test_right_and_wrong_differ_in_colour_and_in_line(shown):
    retrieval_strips()
    figure, _ = shown[0]
    is_right = [True, False, True, False, True, True]
    answers = [axis for i, axis in enumerate(figure.axes) if i % 5 >= 2]
    for axis, right in zip(answers, is_right, strict=True):
        for side in axis.spines.values():
            assert side.get_visible()
            assert to_hex(side.get_edgecolor()) == (plots.RIGHT if right else plots.WRONG)
            assert (side.get_linestyle() == "-") == right
        assert axis.title.get_color() == (plots.RIGHT if right else plots.WRONG)


def test_distances_stand_below_the_answers(shown):
    retrieval_strips()
    retrieval_strips(distances=np.array([[0.1, 0.2, 0.345], [1, 2, 3]]))
    without, with_distances = ([axis.get_xlabel() for axis in figure.axes] for figure, _ in shown)
    assert set(without) == {""}
    assert [text for text in with_distances if text] == ["0.10", "0.20", "0.34", "1.00", "2.00", "3.00"]


def test_single_strip_with_a_single_answer(displayed):
    show_retrieval(IMAGES[:1], [0], IMAGES[None, 1:2], [[1]], ["bag", "coat"], "One", "one strip")
    assert displayed[0]._repr_png_()[1]["alt"] == "one strip"


@pytest.mark.parametrize(
    ("queries", "answers", "answer_labels"),
    [
        (IMAGES[:2], IMAGES[:1, None], [[1]]),
        (IMAGES[:1], IMAGES[None, :3], [[1, 0]]),
        (IMAGES[:1], IMAGES[None, :1], [1]),
        (IMAGES[:0], np.zeros((0, 1, 6, 5, 1)), np.zeros((0, 1), int)),
    ],
)
def test_strips_whose_parts_do_not_fit_are_refused(queries, answers, answer_labels):
    with pytest.raises(ValueError, match=r"must both begin|but answers for"):
        show_retrieval(queries, [0], answers, answer_labels, ["bag", "coat"], "One", "one strip")
    assert plt.get_fignums() == []


# plot_embedding

POINTS = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, 1.0]])


@pytest.mark.parametrize("labels", [[2, 7, 2, 7], [[2], [7], [2], [7]]])
def test_points_are_grouped_by_class(shown, labels):
    plot_embedding(POINTS, np.array(labels), title="Two classes")
    figure, alt = shown[0]
    (axis,) = figure.axes
    assert axis.get_title() == "Two classes"
    assert [collection.get_offsets().tolist() for collection in axis.collections] == [
        POINTS[::2].tolist(),
        POINTS[1::2].tolist(),
    ]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["2", "7"]
    assert alt == "Two classes: 4 points of 2, 7."


def test_classes_differ_in_colour_and_in_marker(shown):
    plot_embedding(np.zeros((10, 2)), np.arange(10))
    scattered = shown[0][0].axes[0].collections
    assert len({to_hex(collection.get_facecolor()[0]) for collection in scattered}) == 10
    assert len({collection.get_paths()[0].vertices.tobytes() for collection in scattered}) == 10


def test_class_names_and_own_alt_text(shown):
    plot_embedding(POINTS, [0, 1, 0, 1], class_names=("bag", "coat"))
    plot_embedding(POINTS, [0, 1, 0, 1], alt="a zigzag")
    assert [text.get_text() for text in shown[0][0].axes[0].get_legend().get_texts()] == ["bag", "coat"]
    assert [alt for _, alt in shown] == ["Two-dimensional map: 4 points of bag, coat.", "a zigzag"]


def test_given_axis_is_drawn_on_and_not_shown(shown):
    _, axes = plt.subplots(1, 2)
    plot_embedding(POINTS, [0, 1, 0, 1], title="left", axis=axes[0])
    assert shown == []
    assert len(axes[0].collections) == 2
    assert axes[0].get_title() == "left"
    assert axes[0].get_legend() is None
    assert len(axes[1].collections) == 0


@pytest.mark.parametrize(
    ("points", "labels"), [(np.zeros((4, 3)), [0] * 4), (np.zeros(4), [0] * 4), (np.zeros((4, 2)), [0] * 3)]
)
def test_points_must_be_two_dimensional_with_a_label_each(points, labels):
    with pytest.raises(ValueError, match=r"points must be \(N, 2\) with N labels"):
        plot_embedding(points, labels)


@pytest.mark.parametrize("points", [np.zeros((0, 2)), [[0.0, np.nan]], [[np.inf, 0.0]]])
def test_points_that_cannot_be_drawn_are_refused(points):
    with pytest.raises(ValueError, match=r"points (must be|contains NaN)"):
        plot_embedding(points, [0] * len(points))


def test_a_class_keeps_its_colour_when_others_are_missing(shown):
    plot_embedding(POINTS, [0, 1, 3, 7])
    plot_embedding(POINTS[:2], [3, 7])
    every, few = (figure.axes[0].collections for figure, _ in shown)
    for scattered, same in zip(every[2:], few, strict=True):
        assert to_hex(scattered.get_facecolor()[0]) == to_hex(same.get_facecolor()[0])


def test_a_single_image_is_not_taken_for_many():
    with pytest.raises(ValueError, match="is one image"):
        show_images(IMAGES[0])


# Colour on one scale, texts letter by letter, a look and a name for each label


def drawn(figure):
    """The colour images of a figure, as bytes."""
    return np.array([axis.images[0].get_array() for axis in figure.axes if axis.images])


COLOURS = np.random.default_rng(1).integers(0, 256, (3, 6, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "same",
    [
        COLOURS.astype("float32"), COLOURS.astype("float64"), COLOURS.astype("float16"), COLOURS / 255,
        (COLOURS / 255).astype("float32"), COLOURS.astype("int64"), COLOURS.astype("uint16"),
        COLOURS.astype("uint16") * 257, COLOURS.astype("int32") * 257, list(COLOURS.astype("float32")),
    ],
    ids=lambda images: f"{np.asarray(images).dtype} to {np.max(images):.0f}",
)  # fmt: skip
def test_colour_of_any_numbers_is_drawn_as_its_bytes_are(shown, same):
    show_images(same)
    assert np.abs(drawn(shown[0][0]).astype(int) - COLOURS).max() <= (
        1 if "16" in str(np.asarray(same).dtype) else 0
    )


def test_a_dark_image_among_others_stays_dark(shown):
    images = COLOURS.astype("float32")
    images[1] /= 255  # nearly black, beside others that reach 255
    show_images(images)
    assert drawn(shown[0][0])[1].max() <= 1


def test_overshoot_is_cut_off_and_other_scales_are_refused(shown):
    for white in (1, 255):
        images = np.full((1, 2, 2, 3), 0.5 * white)
        images[0, 0, 0], images[0, 1, 1] = 1.02 * white, -0.02 * white
        show_images(images)
        assert drawn(shown[-1][0])[0, [0, 0, 1], [0, 1, 1], 0].tolist() == [255, 128, 0]
    for wrong, told in (
        (np.float32([-2.1, 2.6]), "from -2.1 to 2.6"),
        ([-300, 5], "from -300 to 5"),
        ([np.nan, 1], "nan"),
    ):
        with pytest.raises(ValueError, match=rf"Colours .*{told}.* cannot be drawn: bring them to 0–255"):
            show_images(np.resize(wrong, (1, 2, 2, 3)))
    assert len(plt.get_fignums()) == 2  # the two above


def test_strips_are_drawn_on_one_scale_too(shown):
    answers = COLOURS[None].astype("float32")
    show_retrieval(answers[0, :1] / 255, [0], answers, [[0, 1, 0]], ["bag", "coat"], "One", "one strip")
    images = drawn(shown[0][0])
    assert images[0].max() <= 1 and (images[1:] == COLOURS).all()


@pytest.mark.parametrize(
    "text", ["$5_shirt_$", "US$", "A$AP vs. $uicide_boy$", r"a\$b", "_background_", "$\\bad$"]
)
def test_texts_are_shown_letter_by_letter(displayed, monkeypatch, text):
    figures, real = [], plots.show
    monkeypatch.setattr(plots, "show", lambda figure, alt: figures.append(figure) or real(figure, alt))
    show_images(IMAGES[:1], titles=[text], title=text)
    show_retrieval(IMAGES[:1], [0], IMAGES[None, :1], [[0]], [text], text, "one strip")
    plot_embedding(POINTS, [0, 1, 0, 1], title=text, class_names=[text, "other"])
    assert len(displayed) == 3 and plt.get_fignums() == []
    images, strips, points = figures
    assert images.get_suptitle() == strips.get_suptitle() == images.axes[0].get_title() == text
    legend = points.axes[0].get_legend().get_texts()
    assert [label.get_text() for label in legend] == [text, "other"]
    literal = [
        images._suptitle,
        strips._suptitle,
        images.axes[0].title,
        strips.axes[0].title,
        strips.axes[2].title,
    ]
    for label in [*literal, points.axes[0].title, *legend]:
        assert not label.get_parse_math()


def looks(figure):
    return [
        (to_hex(c.get_facecolor()[0]), c.get_paths()[0].vertices.tobytes())
        for c in figure.axes[0].collections
    ]


def test_a_hundred_classes_all_look_different(shown):
    plot_embedding(np.zeros((100, 2)), np.arange(100))
    plot_embedding(np.zeros((10, 2)), np.arange(10))
    hundred, ten = (looks(figure) for figure, _ in shown)
    assert len(set(hundred)) == 100
    assert hundred[:10] == ten


def test_labels_a_hundred_apart_look_different_too(shown):
    for labels in ([3, 103, 203], [-1, 9, 99], [111085122871, 111265328571, 251952414262]):
        plot_embedding(np.zeros((3, 2)), labels)
        figure = shown[-1][0]
        assert len(set(looks(figure))) == 3
        assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == [str(x) for x in labels]


@pytest.mark.parametrize("label", [-1, 3])
def test_label_without_a_name_is_refused(label):
    told = rf"Label {label} has no name: class_names holds those of 0 to 2\."
    with pytest.raises(ValueError, match=told):
        plot_embedding(POINTS, [0, 1, label, label], class_names=["cat", "dog", "bird"])
    for query, answer in ((label, 0), (0, label)):
        with pytest.raises(ValueError, match=told):
            show_retrieval(
                IMAGES[:1], [query], IMAGES[None, :1], [[answer]], ["cat", "dog", "bird"], "One", "strip"
            )
    assert plt.get_fignums() == []


@pytest.mark.parametrize("labels", [["cat", "cat", "dog", "dog"], [0.0, 1.0, 0.5, 1.0], [None, 1, 2, 3]])
def test_labels_that_are_no_integers_are_refused_with_the_cure(labels):
    with pytest.raises(
        ValueError, match=r"labels must be integers, not .*np\.unique\(names, return_inverse=True\)"
    ):
        plot_embedding(POINTS, labels)
    with pytest.raises(ValueError, match="labels must be integers, not"):
        show_retrieval(IMAGES[:1], labels[:1], IMAGES[None, :1], [[0]], ["bag"], "One", "one strip")
    assert plt.get_fignums() == []


def test_figure_that_cannot_be_drawn_is_closed_all_the_same(displayed):
    figure, axis = plt.subplots()
    axis.set_title("$\\nothing{$")
    with pytest.raises(ValueError, match="nothing"):
        show(figure, "a faulty formula of one's own")
    assert plt.get_fignums() == [] and displayed == []


@pytest.mark.parametrize(
    ("shape", "told"), [((4, 3), r"\(4, 3\) with 4 labels"), ((4, 2), r"\(4, 2\) with 3 labels")]
)
def test_message_tells_both_shapes(shape, told):
    with pytest.raises(ValueError, match=rf"not {told}"):
        plot_embedding(np.zeros(shape), [0] * (4 if shape[1] == 3 else 3))


def test_messages_of_images_and_strips_tell_what_they_got():
    with pytest.raises(ValueError, match=r"with N ≥ 1, not \(6, 5\)"):
        show_images(np.zeros((6, 5)))
    with pytest.raises(
        ValueError, match=r"answers \(1, 1, 6, 5, 1\) and answer_labels \(2, 1\) must both begin"
    ):
        show_retrieval(IMAGES[:2], [0, 0], IMAGES[None, :1], [[0], [0]], ["bag"], "One", "strip")
    with pytest.raises(ValueError, match="2 queries and 1 labels, but answers for 1"):
        show_retrieval(IMAGES[:2], [0], IMAGES[None, :1], [[0]], ["bag"], "One", "strip")
