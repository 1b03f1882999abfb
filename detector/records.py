"""The types of the JSON object of an image, key by key. `docs/design.md` ("JSON contract") says what each key means."""

from typing import NotRequired, TypedDict


class DetectorScore(TypedDict):
    """One detector on one image. logit: higher speaks for synthetic. probability: σ(logit). bias: the logit minus the contributions.
    detector: its full name. backbone: what it reads, "pixels" for methods that read none. origin: who released the head, "" for ours."""

    probability: float
    logit: float
    bias: float
    detector: NotRequired[str]
    backbone: NotRequired[str]
    origin: NotRequired[str]


class VerdictRecord(TypedDict):
    """The verdict; see `detector.verdict.fusion.Verdict`."""

    label: str
    probability: float
    logit: float
    contributions: dict[str, float]
    bias: float
    reason: NotRequired[str]
    detector: NotRequired[str]
    calibration: NotRequired[str]


class Percentiles(TypedDict):
    """Percentile of a descriptor, 0 to 100, among the reference images of each class; None where it is not defined."""

    real: float | None
    synthetic: float | None


class CorrelationName(TypedDict):
    """A concept that correlates with a unit. pole: the phrase towards which a rising unit points. correlation: |r|, 0 to 1."""

    concept: str
    pole: str
    correlation: float


class SpanName(TypedDict):
    """A concept that explains variance of a unit. explained: share of this step; cumulative: share of this and all earlier steps."""

    concept: str
    pole: str
    explained: float
    cumulative: float


class UnitNames(TypedDict):
    """Names of k units, one entry a unit; see `name_units` in `detector.methods.orthogonal.naming`."""

    names: list[list[CorrelationName]]
    text_span: list[list[SpanName]]
    chance: list[float]
    named: list[bool]


class OrthogonalRecord(UnitNames):
    """The k units of the orthogonal head. contributions: in logits; with `bias` they add up to the head's logit."""

    activations: list[float]
    contributions: list[float]
    bias: float


class ConceptRecord(TypedDict):
    """One concept. activation: cosine, −1 to 1, above 0 nearer to `positive`. contribution: in logits, above 0 speaks for synthetic."""

    name: str
    positive: str
    negative: str
    activation: float
    contribution: float


class ObjectRecord(TypedDict):
    """One object of a caption. score: cosine of its crop with its text, −1 to 1. box: x0, y0, x1, y1 in pixels of the image."""

    phrase: str
    score: float
    box: list[int]


# "global": cosine of image and caption, −1 to 1; None without a usable caption.
ItemRecord = TypedDict("ItemRecord", {"caption": str, "caption_source": str, "global": float | None, "objects": list[ObjectRecord]})


class FactsRecord(TypedDict):
    """What the file says of itself; see `detector.data.facts.FileFacts`."""

    format: str | None
    size_bytes: int | None
    mode: str
    stored_width: int
    stored_height: int
    orientation: int
    frames: int
    jpeg_quality: int | None
    chroma_subsampling: str | None
    has_exif: bool
    has_c2pa: bool


class AnalysisRecord(TypedDict):
    """The JSON object of one image. The first six keys are always there; the others are absent where they have no value."""

    file: str | None
    width: int | None
    height: int | None
    format: str | None
    error: str | None
    backbone: str | None
    leader: NotRequired[str]
    verdict: NotRequired[VerdictRecord]
    absent: NotRequired[list[str]]
    detectors: NotRequired[dict[str, DetectorScore]]
    physical: NotRequired[dict[str, float | None]]
    physical_contributions: NotRequired[dict[str, float]]
    physical_percentiles: NotRequired[dict[str, Percentiles]]
    orthogonal: NotRequired[OrthogonalRecord]
    concepts: NotRequired[list[ConceptRecord]]
    heads: NotRequired[dict[str, str]]
    residual: NotRequired[dict[str, float]]
    item: NotRequired[ItemRecord]
    physical_text: NotRequired[str]
    file_facts: NotRequired[FactsRecord]
