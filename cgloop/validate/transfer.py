"""Does the model hold on a protein that it was not trained on?"""

from collections.abc import Sequence

from cgloop.checks import Check, CheckResult
from cgloop.validate.family import FAMILIES
from cgloop.wording import listing

UNSEEN = Check(
    "transfer.unseen",
    "a protein that was not in training",
    "",
    "reported",
    "Share of the local and structural checks that pass on a protein none of whose frames were in training, with those "
    "that fail, and the residue types that training has not seen on any protein.",
)


def unseen_check(
    results: Sequence[CheckResult], trained_frames: int, untrained: list[str], subject: str
) -> list[CheckResult]:
    """The summary of a protein that was not in training; nothing for one that was.

    Args:
        results: of all checks on this protein.
        trained_frames: its frames in training.
        untrained: residue types of the protein that were in training nowhere.
        subject: the protein.
    """
    own = [result for result in results if result.check.split(".")[0] in FAMILIES]
    if trained_frames or not own:
        return []
    by_verdict = {
        verdict: [r.check for r in own if r.verdict == verdict] for verdict in ("pass", "fail", "inconclusive")
    }
    parts = [f"{len(by_verdict['pass'])} of {len(own)} local and structural checks pass"]
    if failed := by_verdict["fail"]:
        parts.append(f"{listing(failed)} {'fails' if len(failed) == 1 else 'fail'}")
    if by_verdict["inconclusive"]:
        parts.append(f"{len(by_verdict['inconclusive'])} cannot be decided")
    parts.append(
        f"types without training: {', '.join(untrained)}" if untrained else "all its residue types were in training"
    )
    return [
        CheckResult(
            check=UNSEEN.name, subject=subject, value=len(by_verdict["pass"]) / len(own), error=0.0, threshold=None,
            verdict="reported", reason="; ".join(parts), detail={**by_verdict, "untrained_types": untrained},
            inputs={"checks": [result.check for result in own]},
        )
    ]  # fmt: skip
