"""`model.ptb` against the network that it was made of, over domains as LAMMPS would make them."""

from functools import cache, partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgloop.errors import UserError
from cgloop.export import chemtrain_deploy
from cgloop.export.chemtrain_deploy import ModelMessage, write_ptb
from cgloop.export.emulate import (
    SKIN_A,
    Domain,
    Pairs,
    Plugin,
    Room,
    compare,
    gather_forces,
    list_pairs,
    read_ptb,
    split,
)
from cgloop.md.session import Session
from cgloop.model.graph import build_graph
from cgloop.model.hybrid import Model, energy_and_forces, without_prior
from tests.model.systems import QUICKLY, chain, small_painn, small_params, small_spec

pytestmark = pytest.mark.slow

N_BEADS = 24
CUTOFF_A = 6.0
X = chain(N_BEADS)
TYPES = (np.arange(N_BEADS) * 7) % 20
UNTRAINED = tuple(i != TYPES[5] for i in range(20))

MODELS = {
    # With everything: a prior that must stay outside, a bound that is felt, a type that was not in training.
    "allegro": Model(
        small_spec(cutoff_A=CUTOFF_A, trained_types=UNTRAINED), "hybrid", 9.0, ml_energy_bound_kcal_per_mol=3.0
    ),
    "painn": Model(small_painn(cutoff_A=CUTOFF_A, trained_types=UNTRAINED), "ml-only", CUTOFF_A),
}
TOLERANCE = 2e-5


@cache
def params_of(name):
    return small_params(MODELS[name])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ptb")
    for name, model in MODELS.items():
        write_ptb(folder / f"{name}.ptb", model, params_of(name))
    return {name: folder / f"{name}.ptb" for name in MODELS}


@cache
def reference(name, seed=None):
    """Forces and energy of the network of a model at `X`, or at another conformation."""
    x = X if seed is None else chain(N_BEADS, seed)
    network = without_prior(MODELS[name])
    graph = build_graph(TYPES, np.zeros(N_BEADS - 1, bool), x, CUTOFF_A)
    function = jax.jit(partial(energy_and_forces, network), compiler_options=QUICKLY)
    energy, forces, _ = function(params_of(name), x.astype(np.float32), graph)
    return np.asarray(forces), float(energy[0])


def plugin_of(file, newton, **room):
    """One size for all domains, so that a module is compiled once."""
    sizes = {"beads": 40, "pairs": 900, "edges": 600} | room
    return Plugin(read_ptb(file), newton=newton, room=Room(**sizes), compiler_options=QUICKLY)


def assert_same(found, expected, tolerance=TOLERANCE):
    scale = np.sqrt(np.mean(expected[0] ** 2))
    assert scale > 0.05
    np.testing.assert_allclose(found[0], expected[0], atol=tolerance * scale)
    assert found[1] == pytest.approx(expected[1], rel=tolerance, abs=1e-5)


def slabs(n):
    """Rank of every bead: equal parts along the chain's axis."""
    return np.argsort(np.argsort(X[:, 2])) * n // N_BEADS


both_networks = pytest.mark.parametrize("name", list(MODELS))
both_newtons = pytest.mark.parametrize("newton", [True, False])


@both_newtons
@both_networks
@pytest.mark.parametrize("n_domains", [1, 2, 3, 4])
def test_domains_add_up_to_the_whole(files, name, newton, n_domains):
    plugin = plugin_of(files[name], newton)
    domains = split(X, TYPES + 1, slabs(n_domains), plugin.ptb.reach_A(newton))
    assert len(domains) == n_domains
    if n_domains > 2 and plugin.ptb.reach_A(newton) < 20:
        assert any(len(domain.bead) < N_BEADS for domain in domains)
    assert_same(gather_forces(domains, plugin, N_BEADS), reference(name))


@both_newtons
@both_networks
@settings(max_examples=25, deadline=None)
@given(rank=st.lists(st.integers(0, 3), min_size=N_BEADS, max_size=N_BEADS), skin=st.floats(0.0, 6.0))
def test_any_division_adds_up(files, name, newton, rank, skin):
    """Any bead on any rank; ghosts beyond what is needed do not matter, and neither does a rank that owns nothing."""
    plugin = plugin_of(files[name], newton)
    domains = split(X, TYPES + 1, np.array(rank), plugin.ptb.reach_A(newton) + skin)
    assert_same(gather_forces(domains, plugin, N_BEADS), reference(name))


@both_newtons
@both_networks
def test_images_of_a_periodic_box(files, name, newton):
    """A chain that lies across the boundary: what is a neighbour is an image, and has its force from there."""
    plugin = plugin_of(files[name], newton)
    box = np.array([40.0, 40.0, 70.0])
    x = np.mod(X + np.array([0.0, 20.0, 50.0]), box)
    assert np.ptp(x[:, 2]) > 60
    domains = split(x, TYPES + 1, slabs(2), plugin.ptb.reach_A(newton), box)
    # So far from the origin float32 is coarser.
    assert_same(gather_forces(domains, plugin, N_BEADS), reference(name), 1e-4)


@both_newtons
@both_networks
def test_ghosts_that_are_needed(files, name, newton):
    """A thread of beads that see next to nobody but the next. With as many bonds of ghosts as `nbr_order` says it is
    right, with one less it is not: nothing is asked for in vain, and the comparison sees what is missing."""
    number = np.arange(N_BEADS)
    thread = np.stack([1.2 * np.cos(2 * number), 1.2 * np.sin(2 * number), 3.6 * number], axis=1) + 0.1 * X[::-1]
    pairs = np.linalg.norm(thread[:, None] - thread, axis=-1) < CUTOFF_A
    assert pairs.sum() < 3 * N_BEADS
    plugin = plugin_of(files[name], newton)
    order = plugin.ptb.nbr_order[0 if newton else 1]

    def forces_with(hops):
        domains = []
        for rank in range(3):
            own = known = number * 3 // N_BEADS == rank
            for _ in range(hops):
                known = known | pairs[known].any(axis=0)
            bead = np.concatenate([np.flatnonzero(own), np.flatnonzero(known & ~own)])
            domains.append(Domain(thread[bead], TYPES[bead] + 1, int(own.sum()), bead))
        return gather_forces(domains, plugin, N_BEADS)[0]

    (whole,) = split(thread, TYPES + 1, np.zeros(N_BEADS, int), 0.0)
    expected = plugin.compute(whole)[0]
    scale = np.sqrt(np.mean(expected**2))
    assert np.max(np.abs(forces_with(order) - expected)) < TOLERANCE * scale
    assert np.max(np.abs(forces_with(order - 1) - expected)) > 2.5 * TOLERANCE * scale


def test_without_forces_of_ghosts_newton_is_wrong(files):
    """That the check would notice a force that is not sent back."""
    plugin = plugin_of(files["allegro"], True)
    domains = [
        domain._replace(bead=np.where(np.arange(len(domain.bead)) < domain.n_local, domain.bead, N_BEADS))
        for domain in split(X, TYPES + 1, slabs(3), plugin.ptb.reach_A(True))
    ]
    forces, energy = gather_forces(domains, plugin, N_BEADS + 1)
    expected = reference("allegro")
    assert energy == pytest.approx(expected[1], rel=1e-5)
    assert np.max(np.abs(forces[:-1] - expected[0])) > 0.01 * np.sqrt(np.mean(expected[0] ** 2))


def evenly(model, params, positions, graph, of_beads=chemtrain_deploy.bead_energies):
    """An energy of all beads, a share to each: right for one domain, and for one alone."""
    shares = graph.bead_mask / graph.bead_mask.sum()
    return shares * of_beads(model, params, positions, graph).sum()


@both_newtons
def test_an_energy_of_all_beads_shared_evenly_is_caught(monkeypatch, tmp_path, newton):
    monkeypatch.setattr(chemtrain_deploy, "bead_energies", evenly)
    write_ptb(tmp_path / "wrong.ptb", MODELS["allegro"], params_of("allegro"))
    plugin = plugin_of(tmp_path / "wrong.ptb", newton)
    expected = reference("allegro")
    one, several = (split(X, TYPES + 1, slabs(n), plugin.ptb.reach_A(newton)) for n in (1, 3))
    assert_same(gather_forces(one, plugin, N_BEADS), expected)
    forces, energy = gather_forces(several, plugin, N_BEADS)
    assert abs(energy - expected[1]) > 0.01 * abs(expected[1])
    if newton:
        assert np.max(np.abs(forces - expected[0])) > 0.01 * np.sqrt(np.mean(expected[0] ** 2))


@both_newtons
@both_networks
def test_padding_changes_nothing(files, name, newton):
    (domain,) = split(X, TYPES + 1, slabs(1), 0.0)
    forces, energy = plugin_of(files[name], newton).compute(domain)
    again, same = plugin_of(files[name], newton, beads=47, pairs=1001, edges=777).compute(domain)
    scale = np.sqrt(np.mean(forces**2))
    np.testing.assert_allclose(again, forces, atol=TOLERANCE * scale)
    assert same == pytest.approx(energy, rel=TOLERANCE)


@both_networks
def test_room_grows_until_all_edges_are_in(files, name):
    """As the plugin starts: no room for beads and pairs, and for one edge."""
    plugin = Plugin(read_ptb(files[name]), newton=True, compiler_options=QUICKLY)
    (domain,) = split(X, TYPES + 1, slabs(1), 0.0)
    forces, energy = plugin.compute(domain)
    assert_same((forces, energy), reference(name))
    n_edges = len(build_graph(TYPES, np.zeros(N_BEADS - 1, bool), X, CUTOFF_A).senders)
    assert n_edges <= plugin.room.edges < 1.2 * n_edges + 2
    assert plugin.room.pairs >= len(plugin.pairs(domain).centres) > n_edges


def test_no_room_is_an_error(files):
    plugin = Plugin(read_ptb(files["allegro"]), newton=True, multiplier=0.1, compiler_options=QUICKLY)
    plugin.room = Room(40, 600, 1)
    (domain,) = split(X, TYPES + 1, slabs(1), 0.0)
    with pytest.raises(RuntimeError, match="no room for"):
        plugin.compute(domain)


@both_newtons
@both_networks
def test_a_rank_without_anything(files, name, newton):
    """No bead, no ghost, no pair, and no room for any: sizes of zero."""
    plugin = Plugin(read_ptb(files[name]), newton=newton, compiler_options=QUICKLY)
    forces, energy = plugin.compute(Domain(np.zeros((0, 3)), np.zeros(0, int), 0, np.zeros(0, int)))
    assert forces.shape == (0, 3)
    assert energy == 0.0
    assert (plugin.room.beads, plugin.room.pairs) == (0, 0)


@both_newtons
@both_networks
def test_ghosts_alone_have_no_energy(files, name, newton):
    plugin = plugin_of(files[name], newton)
    forces, energy = plugin.compute(Domain(X, TYPES + 1, 0, np.arange(N_BEADS)))
    assert energy == 0.0
    if newton:
        np.testing.assert_array_equal(forces, 0.0)


@both_newtons
@both_networks
def test_beads_out_of_reach(files, name, newton):
    """No edges within the cutoff, one pair in the skin."""
    plugin = plugin_of(files[name], newton)
    x = np.array([[0.0, 0, 0], [CUTOFF_A + 1.0, 0, 0], [90.0, 0, 0]])
    domain = Domain(x, np.array([3, 4, 5]), 3, np.arange(3))
    assert len(plugin.pairs(domain).centres) == 2
    forces, energy = plugin.compute(domain)
    np.testing.assert_array_equal(forces, 0.0)
    assert energy == 0.0


def test_a_list_the_other_way_round(files):
    """Later versions of the plugin name the owner second; for a local network both are understood."""
    plugin = plugin_of(files["allegro"], True)
    domain = split(X, TYPES + 1, slabs(3), plugin.ptb.reach_A(True))[1]
    forces, energy = plugin.compute(domain)
    pairs = plugin.pairs(domain)
    again, same = plugin.compute(domain, Pairs(pairs.neighbors, pairs.centres))
    np.testing.assert_allclose(again, forces, atol=TOLERANCE * np.sqrt(np.mean(forces**2)))
    assert same == pytest.approx(energy, rel=TOLERANCE)


def test_lists_of_lammps_itself(files, tmp_path):
    """A periodic chain in LAMMPS: its ghosts, its whole list of own beads, and its bits for bonded pairs."""
    box = 40.0
    wrapped = np.mod(X - X.mean(axis=0) + [0.0, 0.0, 15.0] + box / 2, box) - box / 2
    lines = ["chain", "", f"{N_BEADS} atoms", f"{N_BEADS - 1} bonds", "20 atom types", "1 bond types"]
    lines += [f"{-box / 2} {box / 2} {axis}lo {axis}hi" for axis in "xyz"]
    lines += ["", "Masses", "", *(f"{i + 1} 100.0" for i in range(20)), "", "Atoms # molecular", ""]
    lines += [f"{i + 1} 1 {TYPES[i] + 1} {x!r} {y!r} {z!r}" for i, (x, y, z) in enumerate(wrapped.tolist())]
    lines += ["", "Bonds", "", *(f"{i + 1} 1 {i + 1} {i + 2}" for i in range(N_BEADS - 1))]
    (tmp_path / "chain.data").write_text("\n".join(lines) + "\n")
    with Session() as session:
        session.command(
            "units real\natom_style molecular\nboundary p p p\nnewton on\nspecial_bonds lj 1e-50 1e-50 1e-50\n"
            f"read_data {tmp_path / 'chain.data'}\nbond_style zero\nbond_coeff 1\n"
            f"neighbor {SKIN_A} bin\npair_style zero {CUTOFF_A} full\npair_coeff * *\nrun 0 post no"
        )
        lammps = session._lammps
        n_local, n_ghost = (lammps.extract_global(name) for name in ("nlocal", "nghost"))
        get = partial(lammps.numpy.extract_atom, nelem=n_local + n_ghost)
        domain = Domain(get("x").copy(), get("type").copy(), n_local, get("id") - 1)
        lists = list(lammps.numpy.get_neighlist(lammps.find_pair_neighlist("zero")))
        neighbors = np.concatenate([each for _, each in lists])
        centres = np.concatenate([np.full(len(each), bead) for bead, each in lists])
    assert n_ghost > 0
    assert np.any(neighbors < 0)
    assert np.any(neighbors > 1 << 29)
    plugin = plugin_of(files["allegro"], True, beads=120)
    forces, energy = plugin.compute(domain, Pairs(centres, neighbors))
    total = np.zeros((N_BEADS, 3))
    np.add.at(total, domain.bead, forces)
    assert np.abs(forces[n_local:]).max() > 0.01
    assert_same((total, energy), reference("allegro"), 1e-4)
    ours = plugin.pairs(domain)
    key = {(a, b) for a, b in zip(centres.tolist(), (neighbors & 0x1FFFFFFF).tolist(), strict=True)}
    assert key == set(zip(ours.centres.tolist(), ours.neighbors.tolist(), strict=True))


@both_networks
def test_forces_are_slopes_of_the_energies_of_all_domains(files, name):
    plugin = plugin_of(files[name], True)

    def whole(x):
        return gather_forces(split(x, TYPES + 1, slabs(3), plugin.ptb.reach_A(True) + 1.0), plugin, N_BEADS)

    forces, _ = whole(X)
    for bead, axis in ((8, 0), (16, 2)):
        step = np.zeros_like(X)
        step[bead, axis] = 0.02
        slope = (whole(X + step)[1] - whole(X - step)[1]) / 0.04
        assert forces[bead, axis] == pytest.approx(-slope, rel=0.02, abs=0.01)


def test_compare(files):
    found = compare(files["allegro"], MODELS["allegro"], params_of("allegro"), X, TYPES, (1, 2))
    assert found["cases"] == 4
    assert found["max_force_difference"] < TOLERANCE
    assert found["max_energy_difference"] < 1e-4
    other = small_params(MODELS["allegro"], seed=1)
    assert compare(files["allegro"], MODELS["allegro"], other, X, TYPES, (1,))["max_force_difference"] > 0.1


def test_lists_of_own_beads_are_part_of_lists_of_all():
    domain = split(X, TYPES + 1, slabs(2), 12.0)[0]
    own, whole = (list_pairs(domain, CUTOFF_A, of_ghosts=flag) for flag in (False, True))
    assert np.all(own.centres < domain.n_local)
    assert len(own.centres) < len(whole.centres)
    both = set(zip(whole.centres.tolist(), whole.neighbors.tolist(), strict=True))
    assert both == {(b, a) for a, b in both}


def message_of(file):
    message = ModelMessage()
    message.ParseFromString(file.read_bytes())
    return message


def test_files_that_are_not_for_here(files, tmp_path):
    file = tmp_path / "other.ptb"
    with pytest.raises(UserError, match="cannot be read"):
        read_ptb(file)
    file.write_bytes(files["allegro"].read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be read"):
        read_ptb(file)
    half = message_of(files["allegro"])
    half.neighbor_list.half_list = True
    file.write_bytes(half.SerializeToString())
    with pytest.raises(UserError, match="not a sparse whole neighbour list"):
        read_ptb(file)
    special = message_of(files["allegro"])
    special.mlir_module += "// stablehlo.custom_call @cublas(%1)"
    file.write_bytes(special.SerializeToString())
    with pytest.raises(UserError, match="the module calls cublas"):
        read_ptb(file)
    special.mlir_module = "func.func public @main(%arg0: tensor<?xf32>)"
    file.write_bytes(special.SerializeToString())
    with pytest.raises(UserError, match=r"no module in StableHLO 1\.8\.5"):
        read_ptb(file)
