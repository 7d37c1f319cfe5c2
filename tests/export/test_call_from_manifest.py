"""The exported module, called by a process that has the manifest, JAX and NumPy, and nothing else."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from cgloop.errors import UserError
from cgloop.export.bundle import load_bundle, write_bundle
from cgloop.export.stablehlo import ARGUMENTS, RESULTS
from cgloop.model.graph import Graph, build_graph
from cgloop.model.hybrid import energy_and_forces
from cgloop.model.terms import TERM_NAMES
from tests.md.model_worlds import CUTOFF_A, protein, small_model

pytestmark = pytest.mark.slow

CALLER = """
import json, sys
from pathlib import Path

import jax
import numpy as np
from jax import export

folder = Path(sys.argv[1])
given = json.loads(sys.stdin.read())
manifest = json.loads((folder / "manifest.json").read_text())
described = manifest["module"]

ids = {one["name"]: one["id"] for one in manifest["types"]}
frames, chain = np.array(given["positions"]), np.array(given["chain"])
replicas, beads = frames.shape[:2]
count = np.arange(beads)
copies = np.arange(replicas) * beads
near = np.linalg.norm(frames[:, :, None] - frames[:, None], axis=-1) <= manifest["cutoff_A"]
where, j, i = np.nonzero(near & (count[:, None] != count))
same = chain[i] == chain[j]

def run_of(length):
    first = np.array([k for k in range(beads - length + 1) if len(set(chain[k : k + length])) == 1])
    return (copies[:, None, None] + first[:, None] + np.arange(length)).reshape(-1, length)

inputs = {
    "positions": frames.reshape(-1, 3),
    "types": [ids[name] for name in given["residues"]] * replicas,
    "replica": np.repeat(np.arange(replicas), beads),
    "senders": j + copies[where],
    "receivers": i + copies[where],
    "separation": np.where(same, abs(i - j), described["unlinked_separation"]),
    "bonds": run_of(2),
    "angles": run_of(3),
    "dihedrals": run_of(4),
}
masks = {"bead_mask": "types", "edge_mask": "senders", "bond_mask": "bonds", "angle_mask": "angles",
         "dihedral_mask": "dihedrals"}
inputs |= {name: np.ones(len(inputs[of]), bool) for name, of in masks.items()}
inputs["replica_mask"] = np.ones(replicas, bool)

arguments = [np.asarray(inputs[name], described["arguments"][name]["dtype"]) for name in described["argument_order"]]
module = export.deserialize(bytearray((folder / described["files"]["cpu"]).read_bytes()))
results = dict(zip(described["result_order"], jax.jit(module.call)(*arguments), strict=True))
assert not [name for name in sys.modules if name.startswith("cgloop")]
terms = dict(zip(manifest["energy"]["terms"], np.asarray(results.pop("terms")).T.tolist(), strict=True))
print(json.dumps({**{name: np.asarray(one).tolist() for name, one in results.items()}, "terms": terms}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    model, params = small_model()
    write_bundle(folder, model, params, temperature_K=320.0)
    return folder, model, params


def two_chains():
    """Two chains near enough for pairs between them, in two replicas."""
    one = protein(12, chains=2)
    frames = one.positions[[0, 5]].copy()
    frames[:, 6:, 0] -= 5.0
    return one, frames


def test_a_process_with_nothing_but_the_manifest_gets_the_models_numbers(bundle):
    folder, model, params = bundle
    one, frames = two_chains()
    names = {entry["id"]: entry["name"] for entry in json.loads((folder / "manifest.json").read_text())["types"]}
    residues = [names[int(kind)] for kind in one.residue_type]
    given = {"positions": frames.tolist(), "chain": one.chain.tolist(), "residues": residues}
    done = subprocess.run(
        [sys.executable, "-c", CALLER, str(folder)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    graph = build_graph(one.residue_type, one.linked, frames, CUTOFF_A)
    energies, forces, terms = jax.jit(lambda x, g: energy_and_forces(model, params, x, g))(frames.reshape(-1, 3), graph)
    np.testing.assert_allclose(found["energies"], energies, rtol=2e-6, atol=2e-4)
    np.testing.assert_allclose(found["forces"], forces, rtol=2e-5, atol=2e-4)
    for name, column in zip(TERM_NAMES, np.asarray(terms).T, strict=True):
        np.testing.assert_allclose(found["terms"][name], column, rtol=2e-6, atol=2e-4)
    across = one.chain[graph.senders % 12] != one.chain[graph.receivers % 12]
    assert across.sum() > 10


def test_separation_across_chains_is_that_of_the_manifest(bundle):
    folder, model, params = bundle
    unlinked = json.loads((folder / "manifest.json").read_text())["module"]["unlinked_separation"]
    one, frames = two_chains()
    linked = one.linked.copy()
    linked[2] = False  # a break in the first chain
    graph = build_graph(one.residue_type, linked, frames, CUTOFF_A)
    piece = np.concatenate([[0], np.cumsum(~linked)])
    i, j = graph.receivers % 12, graph.senders % 12
    np.testing.assert_array_equal(graph.separation, np.where(piece[i] == piece[j], abs(i - j), unlinked))
    # Two beads of different chains in contact repel each other; as bonded neighbors (1) they would not.
    near = np.array([[0.0, 0.0, 0.0], [3.5, 0.0, 0.0]], np.float32)
    contact = build_graph(one.residue_type[:2], np.array([False]), near, CUTOFF_A)
    assert contact.separation.tolist() == [unlinked, unlinked]
    repulsion = TERM_NAMES.index("repulsion")

    def repelled(graph):
        return float(energy_and_forces(model, params, near, graph)[2][0, repulsion])

    assert repelled(contact) > 0.1
    assert repelled(contact._replace(separation=np.ones(2, np.int32))) == 0.0


def test_orders_are_lists_of_the_manifest(bundle):
    """Keys of the file are sorted by name; read as an order they gave wrong arguments of the right shapes."""
    described = json.loads((bundle[0] / "manifest.json").read_text())["module"]
    assert described["argument_order"] == ["positions", *Graph._fields]
    assert described["result_order"] == list(RESULTS)
    assert list(described["arguments"]) != described["argument_order"]
    for name, (shape, dtype) in {**ARGUMENTS, **RESULTS}.items():
        entry = {**described["arguments"], **described["results"]}[name]
        assert (entry["shape"], entry["dtype"]) == (shape, dtype)
        assert entry["meaning"]
        assert set(shape.replace(",", " ").split()) <= {*described["sizes"], "2", "3", "4", str(len(TERM_NAMES))}


def rewritten(folder, out, change):
    shutil.copytree(folder, out)
    manifest = json.loads((out / "manifest.json").read_text())
    change(manifest["module"])
    (out / "manifest.json").write_text(json.dumps(manifest))
    return out


def test_bundles_without_orders_still_load(bundle, tmp_path):
    """As cgloop 0.1.0 wrote them: only shapes and types of each argument, sorted by name."""

    def older(module):
        for key in ("argument_order", "result_order", "unlinked_separation", "padding"):
            del module[key]
        for arrays in (module["arguments"], module["results"]):
            for entry in arrays.values():
                del entry["meaning"]

    folder, model, params = bundle
    one, frames = two_chains()
    graph = build_graph(one.residue_type, one.linked, frames, CUTOFF_A)
    old = load_bundle(rewritten(folder, tmp_path / "old", older))
    energies, *_ = old.function(frames.reshape(-1, 3), graph)
    expected, *_ = energy_and_forces(model, params, frames.reshape(-1, 3), graph)
    np.testing.assert_allclose(energies, expected, rtol=2e-6, atol=2e-4)


def test_another_order_is_refused(bundle, tmp_path):
    def swap(module):
        order = module["argument_order"]
        order[5], order[6] = order[6], order[5]

    with pytest.raises(UserError, match="takes its arguments in another order"):
        load_bundle(rewritten(bundle[0], tmp_path / "other", swap))
