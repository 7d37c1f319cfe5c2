"""`feedback:` what a cycle that did not pass changes in the next one."""

from typing import Literal

from pydantic import Field

from cgloop.config.base import Section

RemedyName = Literal[
    "add-prior",
    "stronger-repulsion",
    "refine-prior",
    "bound-network",
    "longer-training",
    "lower-learning-rate",
    "stronger-regularisation",
    "smaller-time-step",
]
"""The remedies that there are; `cgloop.feedback.remedies` says what each changes, and against which crashes."""


class DecoysConfig(Section):
    """Frames that the model should not have reached, from which the network learns to leave the prior alone."""

    enabled: bool = True
    weight: float = Field(0.1, gt=0, le=1, description="of a bead in the loss; a bead of the data has 1")
    max_share: float = Field(0.1, gt=0, le=0.5, description="of the training frames: so many decoys at most")
    per_replica: int = Field(10, ge=1, description="of one replica in one stage at most")
    margin_A: float = Field(
        0.5, ge=0, description="a pair is outside the distribution so far beyond its range in the training frames"
    )
    min_rmsd_A: float = Field(0.5, ge=0, description="of two decoys after superposition; nearer ones count once")


class NearMissConfig(Section):
    """Frames of replicas that survived which are worth a look."""

    limit_share: float = Field(0.8, gt=0, le=1, description="a limit of which so much was used was nearly broken")
    outside_A: float = Field(1.0, gt=0, description="beyond the range of a pair in the training frames")
    disagreement: float = Field(3.0, gt=0, description="of an ensemble: times that on validation frames")
    frames: int = Field(5, ge=0, description="per stage of a protein, at most, the worst first")


class FeedbackConfig(Section):
    """What is learned from a cycle that did not pass; with `cycles: 1` only diagnoses are written."""

    start: Literal["continue", "anew"] = Field(
        "continue", description="parameters that a cycle starts from: those of the last one that was kept, or new ones"
    )
    patience: int = Field(2, ge=1, description="stop after so many cycles in a row that improved nothing")
    min_gain: float = Field(
        0.02, ge=0, le=1, description="better survival, or as good survival: so much of the time asked for"
    )
    allow: list[RemedyName] = Field(
        [], description="remedies that may be tried, one a cycle; one that does not help is undone"
    )
    decoys: DecoysConfig = DecoysConfig.model_validate({})
    near_misses: NearMissConfig = NearMissConfig.model_validate({})
    prior_rerun_ps: float = Field(
        1.0, gt=0, description="dynamics of the prior alone from the last sound frame before a crash"
    )
    outbox: int = Field(20, ge=0, description="candidates for all-atom relabelling of a cycle at most")
