"""Questions that a card should answer, each measured by one command: `python -m detector study NAME --data DIR`."""

from detector.evaluation.studies.alignment import alignment_report, alignment_study
from detector.evaluation.studies.base import Study, captioned_tables, data_folder
from detector.evaluation.studies.concepts import concepts_report, concepts_study
from detector.evaluation.studies.cross import cross_report, cross_study
from detector.evaluation.studies.format import format_report, format_study
from detector.evaluation.studies.item import item_report, item_study
from detector.evaluation.studies.physical_clip import ablation_report, physical_clip_study
from detector.evaluation.studies.sdd import sdd_report, sdd_study
from detector.evaluation.studies.seeds import folder, seeds_report, seeds_study
from detector.evaluation.studies.units import units_report, units_study

__all__ = ["STUDIES"]

STUDIES = {
    "units": Study(units_study, units_report, "does the number of orthogonal units matter, and do they come back?"),
    "concepts": Study(concepts_study, concepts_report, "how good and how sparse is the gated concept model?"),
    "format": Study(
        lambda folders, backbone, seeds: format_study(folders[0]),
        format_report,
        "how much of the descriptors' skill is file format?",
        data_folder,
        reads=("physical",),
    ),
    "alignment": Study(alignment_study, alignment_report, "do captions and boxes fit photographs?", data_folder),
    "item": Study(
        lambda corpora, backbone, seeds: item_study(captioned_tables(corpora, backbone), backbone, seeds),
        item_report,
        "what are the words worth to ITEM?",
    ),
    "physical_clip": Study(
        lambda corpora, backbone, seeds: physical_clip_study(captioned_tables(corpora, backbone), backbone, seeds),
        ablation_report,
        "what is each part of image, caption and descriptors worth?",
        reads=("physical",),
    ),
    "sdd": Study(sdd_study, sdd_report, "what is each part of SDD worth?", reads=("sdd",)),
    "seeds": Study(seeds_study, seeds_report, "how far do the heads' figures move with the seed?", folder),
    "cross": Study(
        cross_study, cross_report, "what is left on generators that no training image came from?", reads=("physical", "residual")
    ),
}
