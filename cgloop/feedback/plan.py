"""What the next cycle changes: a pure function of the config and of what earlier cycles left."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cgloop.config.root import Config
from cgloop.errors import UserError
from cgloop.feedback.remedies import changed, choose
from cgloop.feedback.words import number
from cgloop.stages import read_json, write_json

PLAN = "remedies.json"
SCHEMA_VERSION = 1

Comparison = Literal["better", "same", "worse"]


@dataclass(frozen=True)
class Plan:
    """What a cycle is to do; contents of its `remedies.json`.

    Attributes:
        cycle: which.
        base: the cycle that it goes on from: the last one that was kept. None in the first.
        start: cycle whose parameters it starts from; None for new ones.
        start_reason: why so.
        training: the cycle whose training is used as it is, because only what follows it changes; None for a new one.
        active: remedies in force, with `remedy`, `since`, `changes` and `reason`; the one tried now is the last.
        tried: name of the remedy that is new in this cycle.
        reason: why that one, or why none.
        undone: what was taken back before this cycle, `{what, cycle, reason}`.
        rejected: remedies that did not help in any cycle so far.
        decoys: cycles whose decoys are used.
        decoys_dropped: why decoys are no longer used; empty while they are.
        decoys_wait: why they are not used in this cycle, but may be in the next.
    """

    cycle: int
    base: int | None = None
    start: int | None = None
    start_reason: str = ""
    training: int | None = None
    active: list[dict[str, Any]] = field(default_factory=list)
    tried: str | None = None
    reason: str = ""
    undone: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    decoys: list[int] = field(default_factory=list)
    decoys_dropped: str = ""
    decoys_wait: str = ""

    @property
    def changes(self) -> dict[str, Any]:
        """Everything that differs from the config of the run; of two changes of a key the later."""
        return {key: value for one in self.active for key, value in one["changes"].items()}

    def apply(self, config: Config) -> Config:
        """The config of this cycle, apart from its seed."""
        return changed(config, self.changes)


def write_plan(folder: Path, plan: Plan) -> None:
    """Write `remedies.json` of a cycle."""
    write_json(folder / PLAN, {"schema_version": SCHEMA_VERSION, **asdict(plan), "changes": plan.changes})


def read_plan(folder: Path, cycle: int) -> Plan:
    """The plan of a cycle; without a file that of going on from the cycle before.

    Raises:
        UserError: the file cannot be understood.
    """
    data = read_json(folder / PLAN)
    if not data:
        return Plan(cycle, base=cycle - 1, start=cycle - 1) if cycle else Plan(0)
    try:
        return Plan(**{key: value for key, value in data.items() if key not in ("schema_version", "changes")})
    except TypeError as error:
        raise UserError(
            f"cannot be understood: {error}", where=folder / PLAN, remedy="remove it; `cgloop cycle` writes it again"
        ) from None


def compare(new: dict[str, Any], old: dict[str, Any], min_gain: float) -> tuple[Comparison, str]:
    """Whether a cycle is better than another, and why.

    Survival decides where it differs by more than `min_gain`; then the number of required checks that fail; then the
    number that cannot be decided. The force error is no part of it: a model may match forces better and break.

    Args:
        new, old: rows of `cycles.json`.
        min_gain: share of the time asked for.
    """
    gain = new["survival"] - old["survival"]
    if not abs(gain) <= min_gain:
        result: Comparison = "better" if gain > 0 else "worse"
        return result, f"survival {old['survival']:.0%} → {new['survival']:.0%}"
    for key, words in (("failed", "required checks that fail"), ("undecided", "required checks without a decision")):
        if new[key] != old[key]:
            return "better" if new[key] < old[key] else "worse", f"{words}: {old[key]} → {new[key]}"
    return "same", f"survival {new['survival']:.0%}, and as many checks fail"


def plan_next(config: Config, plans: Sequence[Plan], rows: Sequence[dict[str, Any]]) -> Plan:
    """The plan of the cycle after the last one.

    Args:
        config: of the run, without changes.
        plans: of all cycles so far.
        rows: what became of each, see `history.row_of`.
    """
    last, row = plans[-1], rows[-1]
    undone: list[dict[str, Any]] = []
    rejected = list(last.rejected)
    kept = last.base is None or row["compared"]["result"] == "better"
    kept = kept or (last.tried is None and row["compared"]["result"] == "same")
    if not kept and last.tried is not None:
        rejected.append(last.tried)
        undone.append({"what": last.tried, "cycle": last.cycle, "reason": f"no better: {row['compared']['why']}"})
    base = last.cycle if kept or last.base is None else last.base
    parameters = base
    dropped = last.decoys_dropped
    if not dropped and (worse := forces_worse(last, row)):
        dropped = worse
        undone.append({"what": "decoys", "cycle": last.cycle, "reason": worse})
        # What was trained with them is not gone on from.
        parameters = last.base if last.base is not None else base
    active = list(last.active if kept else plans[base].active)
    before = changed(config, Plan(0, active=active).changes)
    choice = choose(
        before, rows[base]["crashes"], frozenset(rejected),
        too_little_data=bool(rows[base].get("too_little_data")),
        wrong_structure=bool(rows[base].get("wrong_structure")),
    )  # fmt: skip
    cycle = last.cycle + 1
    if choice.remedy is not None:
        entry = {"remedy": choice.remedy, "since": cycle, "changes": choice.changes, "reason": choice.reason}
        active = [*active, entry]
    plan = Plan(
        cycle, base=base, active=active, tried=choice.remedy, reason=choice.reason, undone=undone, rejected=rejected,
        decoys_dropped=dropped,
    )  # fmt: skip
    if choice.remedy == "refine":
        # Refined is the training whose dynamics failed, from what they showed: another training would not fit them.
        more = {
            "training": parameters, "start": parameters, "decoys_wait": "",
            "start_reason": f"refines the parameters of cycle {parameters} as they are",
        }  # fmt: skip
        return Plan(**{**asdict(plan), **more})
    start, why = _start(config, plan, plans[parameters], parameters)
    usable = _decoys_usable(plan.apply(config)) and not dropped
    decoys = [one["cycle"] for one in rows if one["decoys"]["found"]] if usable else []
    wait = ""
    if decoys and not same_model(config, plan, plans[base]):
        # Whether decoys raise the force error shows only beside the same model without them.
        decoys, wait = [], f"the model is another than that of cycle {base}: first its force error without decoys"
    more = {"start": start, "start_reason": why, "decoys": decoys, "decoys_wait": wait}
    return Plan(**{**asdict(plan), **more})


def forces_worse(plan: Plan, row: dict[str, Any]) -> str:
    """Why the decoys of a cycle are to be dropped; empty if they are not."""
    rise = row.get("force_rise")
    if not plan.decoys or not row["decoys"]["used"] or rise is None:
        return ""
    if not rise["comparable"] or rise["value"] - rise["error"] <= 0:
        return ""
    return (
        f"the force error on held-out frames rose by {number(rise['value'])} ± {number(rise['error'])} kcal/mol/Å "
        f"against cycle {rise['against']}"
    )


def _start(config: Config, plan: Plan, other: Plan, cycle: int) -> tuple[int | None, str]:
    """Cycle to take parameters from, and why."""
    if config.feedback.start == "anew":
        return None, "`feedback.start: anew`"
    new, old = plan.apply(config), other.apply(config)
    if new.model != old.model:
        return None, f"the model is another than that of cycle {cycle}"
    if new.train.train_priors and new.priors != old.priors:
        return None, f"the prior is another than that of cycle {cycle}"
    return cycle, f"goes on from the parameters of cycle {cycle}"


def same_model(config: Config, plan: Plan, other: Plan) -> bool:
    """Whether two cycles train a model of the same form beside the same prior: their force errors are comparable."""
    one, two = plan.apply(config), other.apply(config)
    return one.model == two.model and one.priors == two.priors


def _decoys_usable(config: Config) -> bool:
    """Beside a frozen prior only: elsewhere nothing would decide where the network says nothing."""
    return config.feedback.decoys.enabled and config.model.energy == "hybrid" and not config.train.train_priors


def why_to_stop(config: Config, rows: Sequence[dict[str, Any]]) -> str:
    """Why no further cycle is made; empty if one is."""
    if rows[-1]["verdict"] == "pass":
        return f"cycle {rows[-1]['cycle']} passed"
    if len(rows) >= config.cycles:
        return f"the limit of {config.cycles} {'cycle' if config.cycles == 1 else 'cycles'} was reached"
    last_gain = max((k for k, row in enumerate(rows) if k and row["compared"]["result"] == "better"), default=0)
    idle = len(rows) - 1 - last_gain
    if idle >= config.feedback.patience:
        return f"nothing improved in the last {idle} {'cycle' if idle == 1 else 'cycles'} (`feedback.patience`)"
    return ""
