"""Every mistake in a config is one line with file, line, key and remedy."""

from pathlib import Path

import pytest
import yaml

from cgloop.config import load_config
from cgloop.config.load import parse_config
from cgloop.config.root import Config
from cgloop.errors import UserError
from cgloop.rundir import as_plain, read_run, write_config
from cgloop.templates import TEMPLATES, template_text, write_template

GOOD = """\
run: {name: x}
data:
  sources: [{path: a.h5}]
  temperature_K: 320
  split: {by: replica, train: [0], validation: [1], test: [2]}
train:
  epochs: 3
"""


def mistake(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse_config(text, Path("c.yaml"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_good_config_is_read_and_paths_are_relative_to_it(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config = load_config(path)
    assert config.train.epochs == 3
    assert config.data.sources[0].path == tmp_path / "a.h5"


def test_unknown_key_names_line_and_nearest():
    text = mistake(GOOD.replace("epochs", "epoch"))
    assert text == "c.yaml, line 7: unknown key `train.epoch` (did you mean `epochs`?)"


def test_unknown_section_names_nearest():
    assert "did you mean `train`?" in mistake(GOOD.replace("train:\n", "trian:\n"))


def test_missing_key_is_named():
    assert "missing key `data.temperature_K`" in mistake(GOOD.replace("  temperature_K: 320\n", ""))


def test_wrong_value_names_key_and_value():
    text = mistake(GOOD.replace("epochs: 3", "epochs: -3"))
    assert "`train.epochs`" in text
    assert "not `-3`" in text


def test_replica_in_two_parts_is_refused():
    assert "more than one part" in mistake(GOOD.replace("validation: [1]", "validation: [0]"))


def test_hidden_irreps_are_checked():
    assert "hidden" in mistake(GOOD + "model: {hidden: banana}\n")


def test_broken_yaml_names_line():
    assert "c.yaml, line" in mistake(GOOD + "  : [\n")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_not_a_mapping(text):
    assert "mapping" in mistake(text)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="no such config file"):
        load_config(tmp_path / "none.yaml")


def test_config_survives_writing(tmp_path):
    config = parse_config(GOOD, tmp_path / "c.yaml")
    write_config(config, tmp_path / "resolved.yaml")
    assert as_plain(load_config(tmp_path / "resolved.yaml")) == as_plain(config)


def test_preset_fills_what_is_not_given():
    config = parse_config(GOOD + "model: {preset: nano, n_radial: 5}\n", Path("c.yaml"))
    assert (config.model.n_radial, config.model.hidden) == (5, "8x0e+8x1o+8x2e")


def test_overrides_replace_values(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    config, run = read_run(path, ("train.epochs=7", f"run.root={tmp_path}", "md.nvt.length_ps=2.5"))
    assert (config.train.epochs, config.md.nvt.length_ps) == (7, 2.5)
    assert run.path == tmp_path / "x"
    with pytest.raises(UserError, match="unknown key `train.epcohs`"):
        read_run(path, ("train.epcohs=7",))
    with pytest.raises(UserError, match="key.subkey=value"):
        read_run(path, ("train.epochs",))


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_are_valid_and_commented(name):
    text = template_text(name)
    assert Config.model_validate(yaml.safe_load(text))
    assert text.count("#") >= 4


def test_template_is_not_written_over_a_file(tmp_path):
    path = tmp_path / "c.yaml"
    write_template("quickstart", path)
    with pytest.raises(UserError, match="exists already"):
        write_template("quickstart", path)
    with pytest.raises(UserError, match="did you mean quickstart"):
        write_template("quikstart", tmp_path / "d.yaml")


def test_examples_are_valid(repository):
    for path in (repository / "examples").rglob("*.yaml"):
        load_config(path)
