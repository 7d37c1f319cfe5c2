"""The page `limits.md`: every limit of checks and monitors."""

from cgloop.config.validate import REQUIRED, REQUIRED_OF_HYBRID
from cgloop.manual.keys import keys
from cgloop.manual.limits import GROUPS, Limit
from cgloop.manual.markdown import table
from cgloop.validate.registry import CHECKS


def limits_page(command: str) -> str:
    """Return the page as text; equal declarations give equal bytes.

    Args:
        command: that writes the page.
    """
    defaults = {key.path: key.default for key in keys()}
    blocks = [
        "# Limits",
        f"<!-- Written by `{command}` from cgloop/manual/limits.py and the declarations of the checks. -->",
        "Every number that a verdict, or the end of a replica, depends on. A check passes if value and error bar are "
        "on the good side of its limit, and fails if both are on the other; exact values have no error bar. The row "
        "of a check shows the number that decided, with the name of the quantity where a check has several. Numbers "
        "under *in the code* are not in the config: they are part of the definition of a check.",
    ]
    for title, group in GROUPS.items():
        blocks += [f"## {title}", table(
            ["of", "what is judged", "good", "default", "unit", "set by", "where it comes from"],
            [_row(limit, defaults) for limit in group],
        )]  # fmt: skip
    blocks += ["## Checks", "What each check measures; those with *yes* decide the verdict by default.", _checks()]
    return "\n\n".join(blocks) + "\n"


def _row(limit: Limit, defaults: dict[str, str]) -> list[str]:
    if limit.is_key:
        value, place = defaults[limit.at], f"`{limit.at}`"
    elif ":" not in limit.at:
        value, place = limit.at, "definition of the check"
    else:
        module, name = limit.at.split(":")
        value, place = f"{limit.constant():g}", f"in the code: `{name}`, {module.replace('.', '/')}.py"
    good = "–" if limit.direction == "reported" else limit.direction
    return [_of(limit.of), limit.judged, good, value, limit.unit, place, limit.source]


def _of(name: str) -> str:
    return ", ".join(f"`{one}`" if one in CHECKS else one for one in name.split(", "))


def _checks() -> str:
    return table(
        ["check", "title", "good", "unit", "required", "definition"],
        [
            [
                f"`{one.name}`",
                one.title,
                one.direction,
                one.unit,
                "yes" if one.name in REQUIRED else "of `hybrid` models" if one.name in REQUIRED_OF_HYBRID else "no",
                one.definition,
            ]
            for one in CHECKS.values()
        ],
    )
