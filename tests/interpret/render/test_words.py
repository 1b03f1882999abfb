"""interpret/render/words.py: how good a method is comes from the measured file and from nowhere else."""

import json

from detector.evaluation.tables import MEAN_TEXTS
from interpret.render import words


def measured(tmp_path, **splits):
    file = tmp_path / "evaluation.json"
    file.write_text(
        json.dumps(
            {
                "splits": {
                    split: {"residual": {"overall": {"auroc": value, "auroc_95": [value - 0.1, value + 0.1]}}}
                    for split, value in splits.items()
                }
            }
        )
    )
    return file


def test_the_sentence_has_the_figures_of_the_file(tmp_path):
    file = measured(tmp_path, test_seen=0.8123, test_unseen=0.651)
    text = words.how_good("residual", evaluation=file)
    assert "on generators seen in training 0.81 [0.71 to 0.91], on unseen ones 0.65 [0.55 to 0.75]" in text


def test_the_sentence_names_the_data_folders_where_there_are_several(tmp_path):
    text = words.how_good("residual", evaluation=measured(tmp_path, **{"web/test_seen": 0.8, "art/test_seen": 0.6}))
    assert "on generators seen in training 0.80 [0.70 to 0.90] (web) and 0.60 [0.50 to 0.70] (art), with" in text


def test_one_split_suffices_and_an_unmeasured_method_is_said_to_be(tmp_path):
    file = measured(tmp_path, test_unseen=0.7)
    assert "seen in training" not in words.how_good("residual", evaluation=file)
    for unmeasured in (
        words.how_good("sdd", evaluation=file),
        words.how_good("residual", evaluation=tmp_path / "absent.json"),
        words.how_good("clip-cues/cm_antonyms_combined"),
    ):
        assert "Not measured" in unmeasured and "AUROC" not in unmeasured


def test_figures_of_the_embedded_model_say_nothing_about_clip_methods_of_another_backbone():
    assert "AUROC" in words.how_good("orthogonal")
    assert "Not measured" in words.how_good("orthogonal", "ViT-L-14-quickgelu/openai")
    assert words.how_good("residual", "ViT-L-14-quickgelu/openai") == words.how_good("residual")


def test_every_fold_out_that_rests_on_a_paper_links_it():
    for name in ("descriptors", "concepts", "units"):
        assert "https://arxiv.org/abs/" in words.HOW[name], name
    assert "not from a paper" in words.HOW["residual"] and "not from a paper" in words.HOW["methods"]


def test_what_words_are_worth_comes_from_the_study(tmp_path):
    file = tmp_path / "studies.json"
    cells = {"all": {"test_seen": [0.7, 0.8]}, MEAN_TEXTS: {"test_seen": [0.6, 0.7]}}
    for better, expected in ((0.0, "help: against one mean text for all images, AUROC changes by +0.100"), (0.2, "add nothing: ")):
        cells[MEAN_TEXTS]["test_seen"] = [0.6 + better, 0.7 + better]
        file = tmp_path / f"{better}.json"
        file.write_text(json.dumps({"item": {"cells": cells}}), encoding="utf-8")
        assert expected in words.text_gain(studies=file)
    assert words.text_gain("ViT-L-14-quickgelu/openai") == "" == words.text_gain(studies=tmp_path / "absent.json")
