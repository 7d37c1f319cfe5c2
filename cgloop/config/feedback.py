"""`feedback:` changes from a cycle that did not pass to the next one."""

from typing import Literal

from pydantic import Field

from cgloop.config.base import Section

RemedyName = Literal[
    "refine",
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
    """Decoys: frames outside the data in which the network is trained to add nothing to the prior."""

    enabled: bool = Field(
        True,
        description="Whether frames that the model should not have reached train the network to leave the prior "
        "alone there.",
    )
    weight: float = Field(0.1, gt=0, le=1, description="Weight of a decoy bead in the loss; a bead of the data has 1.")
    max_share: float = Field(
        0.1, gt=0, le=0.5, description="Largest number of decoys, as a share of the training frames."
    )
    per_replica: int = Field(10, ge=1, description="Largest number of decoys from one replica in one stage.")
    margin_A: float = Field(
        0.5,
        ge=0,
        description="Distance beyond the range of a pair in the training frames from which on it is outside the "
        "distribution.",
    )
    min_rmsd_A: float = Field(
        0.5, ge=0, description="Smallest RMSD after superposition of two decoys; nearer ones count once."
    )


class NearMissConfig(Section):
    """Near misses: frames of surviving replicas that are listed for inspection."""

    limit_share: float = Field(
        0.8, gt=0, le=1, description="Share of a limit from which on a replica that survived is listed as a near miss."
    )
    outside_A: float = Field(
        1.0,
        gt=0,
        description="Distance beyond the range of a pair in the training frames from which on a frame is listed as "
        "unusual.",
    )
    disagreement: float = Field(
        3.0,
        gt=0,
        description="Disagreement of an ensemble, relative to that on validation frames, from which on a frame is "
        "listed.",
    )
    frames: int = Field(
        5, ge=0, description="Largest number of unusual frames listed per stage of a protein, the worst first."
    )


class FeedbackConfig(Section):
    """Changes after a cycle that did not pass; with `cycles: 1` only diagnoses are written."""

    start: Literal["continue", "anew"] = Field(
        "continue",
        description="Parameters that a cycle starts from: those of the last cycle that was kept, or new ones.",
    )
    patience: int = Field(2, ge=1, description="The loop stops after this many cycles in a row without an improvement.")
    min_gain: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Smallest improvement of survival, as a share of the time asked for; a smaller one is no "
        "improvement.",
    )
    allow: list[RemedyName] = Field(
        [],
        description="Remedies that may be tried, one a cycle; one that does not help is undone (docs/feedback.md "
        "lists them).",
    )
    decoys: DecoysConfig = DecoysConfig.model_validate({})
    near_misses: NearMissConfig = NearMissConfig.model_validate({})
    prior_rerun_ps: float = Field(
        1.0, gt=0, description="Length of the dynamics of the prior alone from the last sound frame before a crash."
    )
    outbox: int = Field(20, ge=0, description="Largest number of candidates for all-atom relabeling in a cycle.")
