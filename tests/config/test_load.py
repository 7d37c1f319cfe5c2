"""Every mistake in a config is one line with file, line, key and remedy."""

from pathlib import Path

import pytest
import yaml

from cgloop.config import load_config
from cgloop.config.load import parse_config
from cgloop.config.neutral import without_neutral
from cgloop.config.root import Config
from cgloop.errors import UserError
from cgloop.pipeline import BY_NAME
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


@pytest.mark.parametrize(("options", "kept"), [
    ("max_ell: 0, hidden: 4x1o", "0e"),
    ("symmetry: O3, max_ell: 2, hidden: 4x0o+4x1e", "0e, 1o, 2e"),
    ("n_layers: 3, max_ell: 1, hidden: 4x2e", "0e, 1o"),
])  # fmt: skip
def test_hidden_that_leaves_nothing_for_the_last_layer_is_refused(options, kept):
    assert mistake(GOOD + f"model: {{{options}}}\n").endswith(f"keep at least one of {kept}")
    parse_config(GOOD + f"model: {{{options}, n_layers: 1}}\n".replace("n_layers: 3, ", ""), Path("c.yaml"))


@pytest.mark.parametrize("hidden", ["0x0e", "2x4e", "2x0e+3x1o"])
def test_hidden_of_no_channels_high_degrees_or_two_multiplicities_is_refused(hidden):
    assert "hidden" in mistake(GOOD + f"model: {{hidden: {hidden}}}\n")


def test_configs_without_a_network_are_those_of_allegro():
    for text in ("", "model: {}\n", "model: {preset: lean}\n"):
        assert parse_config(GOOD + text, Path("c.yaml")).model.network == "allegro"


def test_what_was_trained_before_networks_had_names_is_not_trained_again():
    def settings(text):
        """Settings as they enter the digest of the stage."""
        return without_neutral(BY_NAME["train"].settings(parse_config(GOOD + text, Path("c.yaml"))))

    before = settings("model: {preset: lean}\n")["model"]
    assert set(before) == {
        "preset", "energy", "cutoff_A", "symmetry", "max_ell", "n_layers", "n_radial", "envelope_p", "embedding",
        "species_embedding", "mlp", "hidden",
    }  # fmt: skip
    painn = settings("model: {network: painn}\n")["model"]
    assert painn["network"] == "painn"


def test_networks_have_their_own_keys():
    config = parse_config(GOOD + "model: {network: painn, features: 16}\n", Path("c.yaml"))
    assert (config.model.network, config.model.features, config.model.symmetry) == ("painn", 16, "SO3")
    text = mistake(GOOD + "model:\n  network: painn\n  mlp: [8]\n")
    assert text.startswith("c.yaml, line 10: unknown key `model.mlp` (a key of allegro; known here: network,")
    assert "did you mean `features`" in mistake(GOOD + "model: {network: painn, feature: 3}\n")
    assert "did you mean `hidden`" in mistake(GOOD + "model: {hiden: 3}\n")
    text = mistake(GOOD + "model: {network: pain}\n")
    assert text == "c.yaml, line 8: `model.network`: there is no `pain` (did you mean `painn`?)"
    assert "`model.n_layers`" in mistake(GOOD + "model: {network: painn, n_layers: 0}\n")


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
    with pytest.raises(UserError, match="`sources` holds no keys"):
        read_run(path, ("data.sources.0.path=b.h5",))
    with pytest.raises(UserError, match="unknown key `train.epcohs`"):
        read_run(path, ("train.epcohs=7",))
    with pytest.raises(UserError, match="key.subkey=value"):
        read_run(path, ("train.epochs",))


def test_overrides_change_what_a_preset_or_a_network_decides(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + "model: {n_radial: 5}\n")
    lean, painn = (read_run(path, (f"model.{one}",))[0].model for one in ("preset=lean", "network=painn"))
    assert (lean.n_layers, lean.n_radial) == (3, 5)
    assert (painn.network, painn.n_layers, painn.n_radial) == ("painn", 3, 5)
    assert read_run(path, ("train.fine_tuning.epochs=2",))[0].train.fine_tuning.epochs == 2


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
