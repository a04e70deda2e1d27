import numpy as np
import pytest

from training.datasets import DatasetError
from training.voc import VocBox, VocFile, read_voc, write_voc

QUAD = np.array([[10.5, 20], [90, 25], [80, 70], [5, 60]], np.float32)


def test_what_was_written_is_read_again(tmp_path):
    content = VocFile("photo.jpg", 100, 80, (VocBox("cover.jpg", QUAD),))
    write_voc(content, tmp_path / "deep" / "photo.xml")
    again = read_voc(tmp_path / "deep" / "photo.xml")
    assert (again.photo, again.width, again.height) == ("photo.jpg", 100, 80)
    assert again.boxes[0].name == "cover.jpg"
    assert np.allclose(again.boxes[0].quad, QUAD)


def voc(box):
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    edges = "".join(f"<{name}>{value}</{name}>" for name, value in sides)
    return (
        "<annotation><filename>a.jpg</filename>"
        "<size><width>100</width><height>80</height><depth>3</depth></size>"
        f"<object><name>cover</name><bndbox>{edges}</bndbox></object></annotation>"
    )


def test_a_box_of_others_is_a_quad_that_counts_from_0(tmp_path):
    (tmp_path / "a.xml").write_text(voc((1, 1, 51, 41)))
    (box,) = read_voc(tmp_path / "a.xml").boxes
    assert box.quad.tolist() == [[0, 0], [50, 0], [50, 40], [0, 40]]
    assert (box.bounds, box.area) == ((0, 0, 50, 40), 2000)


def test_upright_boxes_are_cut_at_the_photo_s_edges(tmp_path):
    beyond = VocBox("cover", QUAD * 1.5)
    write_voc(VocFile("a.jpg", 100, 80, (beyond,)), tmp_path / "a.xml")
    text = (tmp_path / "a.xml").read_text()
    assert "<xmax>100</xmax>" in text
    assert "<ymax>80</ymax>" in text


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no xml", "syntax error"),
        ("<annotation/>", "it has no size/width"),
        (voc((101, 1, 150, 50)), "cover's box is not in the photo"),
        (voc((5, 5, 5, 5)), "cover's box is not in the photo"),
        (voc(("left", 1, 9, 9)), "could not convert"),
    ],
)
def test_a_bad_file_is_named_with_its_problem(tmp_path, content, problem):
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(DatasetError, match=problem) as caught:
        read_voc(tmp_path / "a.xml")
    assert "a.xml: " in str(caught.value)
