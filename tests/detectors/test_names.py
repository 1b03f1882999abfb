"""detector/detectors/names.py: names of detectors, there and back, and one sentence for names that are none."""

import pytest

from detector.detectors.names import RELEASED, DetectorError, DetectorName, from_environment, parse, parse_all


def test_a_name_says_backbone_method_and_origin():
    assert parse("embedded/sdd") == DetectorName("embedded", "sdd")
    concepts = parse("vit-l-14-336/concepts@synthclic-combined")
    assert concepts == DetectorName("ViT-L-14-336-quickgelu/openai", "concepts", "synthclic-combined")
    assert (concepts.head, concepts.training) == ("clip-cues/cm_antonyms_combined", "combined")
    assert parse("vit-l-14/linear@univfd").head == "univfd/fc" and parse("vit-l-14/linear@univfd").training is None
    assert parse("ViT-B-32/openai/item") == DetectorName("ViT-B-32/openai", "item")
    assert str(parse("embedded/residual")) == "pixels/residual"  # it reads no backbone


def test_every_released_head_has_a_name_of_its_own():
    assert len(set(map(str, RELEASED.values()))) == len(RELEASED) == 13
    for head, name in RELEASED.items():
        assert parse(str(name)) == name and name.head == head


@pytest.mark.parametrize(
    "text", ["", "sdd", "embedded/", "embedded/magic", "vit-l-14/concepts@univfd", "embedded/sdd@nobody", "pixels/sdd"]
)
def test_a_name_that_is_none_gets_one_sentence(text):
    with pytest.raises(DetectorError) as caught:
        parse(text)
    assert str(caught.value).endswith(".") and ". " not in str(caught.value) and "\n" not in str(caught.value)


def test_several_names_come_from_the_environment_each_once():
    names = from_environment({"CUESCOPE_DETECTORS": " embedded/sdd, pixels/residual ,embedded/sdd"})
    assert [str(name) for name in parse_all(names)] == ["embedded/sdd", "pixels/residual"] and from_environment({}) == []
