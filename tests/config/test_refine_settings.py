"""Section `refine`: what is refined fits the kind of model, and rounds can do what they are asked to."""

from pathlib import Path

import pytest

from cgloop.config.load import parse_config
from cgloop.errors import UserError

GOOD = """\
run: {name: x}
data:
  sources: [{path: a.h5}]
  temperature_K: 320
  split: {by: replica, train: [0], validation: [1], test: [2]}
"""


def parse(text: str):
    return parse_config(GOOD + text, Path("c.yaml"))


@pytest.mark.parametrize(
    ("energy", "asked", "refined"),
    [
        ("hybrid", None, "network"),
        ("hybrid", "both", "both"),
        ("prior-only", None, "prior"),
        ("prior-only", "prior", "prior"),
        ("ml-only", None, "network"),
    ],
)
def test_what_is_refined_follows_the_kind_of_model(energy, asked, refined):
    text = f"model: {{energy: {energy}}}\n"
    if asked is not None:
        text += f"refine: {{parameters: {asked}}}\n"
    assert parse(text).refined_parameters == refined


@pytest.mark.parametrize(
    ("energy", "asked", "possible"),
    [("prior-only", "network", "prior"), ("prior-only", "both", "prior"), ("ml-only", "prior", "network")],
)
def test_parameters_that_the_model_does_not_have_are_refused(energy, asked, possible):
    with pytest.raises(UserError, match=f"only `refine.parameters: {possible}` is possible"):
        parse(f"model: {{energy: {energy}}}\nrefine: {{parameters: {asked}}}\n")


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("min_ess: 0.2, drop_ess: 0.3", "`drop_ess` is at most `min_ess`"),
        ("round_ps: 0.02, frames_per_round: 4", "a round of 0.02 ps has 2 steps of 10 fs, too few for 4 frames"),
        ("chains: 0", "`refine.chains`"),
    ],
)
def test_rounds_that_cannot_work_are_refused(keys, words):
    with pytest.raises(UserError) as caught:
        parse(f"refine: {{{keys}}}\n")
    assert words in str(caught.value)
    assert "line 6" in str(caught.value)
