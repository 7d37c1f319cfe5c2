"""A JAX function evaluated by NumPy, operation by operation: nothing is fused, and XLA computes none of its sums.

The function is traced once; `RULES` has the NumPy counterpart of every operation that the models here are made of. An
operation without one is executed by JAX by itself, so that every function can be evaluated.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.extend import core
from scipy.special import expit

Rule = Callable[..., Any]
"""(operands, parameters of the operation as keywords) -> the result, or a list of results."""


class Uncompiled:
    """A function of arrays (in any containers) of fixed shapes, without compilation."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._program: core.ClosedJaxpr | None = None
        self._out: Any = None

    def __call__(self, *arguments: Any) -> Any:
        """Evaluate; the precision is that of the arguments."""
        if self._program is None:
            self._program, shapes = jax.make_jaxpr(self._function, return_shape=True)(*arguments)
            self._out = jax.tree.structure(shapes)
        values = _run(self._program, [np.asarray(leaf) for leaf in jax.tree.leaves(arguments)])
        return jax.tree.unflatten(self._out, values)


def _run(program: core.ClosedJaxpr, arguments: list[Any]) -> list[np.ndarray]:
    known: dict[Any, Any] = dict(zip(program.jaxpr.constvars, map(np.asarray, program.consts), strict=True))
    known.update(zip(program.jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Any:
        return np.asarray(atom.val) if isinstance(atom, core.Literal) else known[atom]

    for equation in program.jaxpr.eqns:
        operands = [np.asarray(read(atom)) for atom in equation.invars]
        found = _apply(equation, operands)
        for variable, value in zip(equation.outvars, found, strict=True):
            known[variable] = np.asarray(value, variable.aval.dtype)
    return [np.asarray(read(atom)) for atom in program.jaxpr.outvars]


def _apply(equation: Any, operands: list[Any]) -> list[Any]:
    name, parameters = equation.primitive.name, equation.params
    for key in INNER:
        if name in CALLS and key in parameters:
            inner = parameters[key]
            return _run(inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ()), operands)
    rule = RULES.get(name)
    if rule is None:
        found = equation.primitive.bind(*operands, **parameters)
        return list(found) if equation.primitive.multiple_results else [found]
    found = rule(*operands, **parameters)
    return list(found) if equation.primitive.multiple_results else [found]


CALLS = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call", "remat", "checkpoint")
INNER = ("jaxpr", "call_jaxpr")
"""Operations that are functions of their own, and where these are in their parameters."""


def _broadcast(x: np.ndarray, *, shape: tuple[int, ...], broadcast_dimensions: tuple[int, ...], **_: Any) -> np.ndarray:
    sizes = [1] * len(shape)
    for place, size in zip(broadcast_dimensions, x.shape, strict=True):
        sizes[place] = size
    return np.broadcast_to(x.reshape(sizes), shape)


def _slice(x: np.ndarray, *, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> np.ndarray:
    steps = strides or (1,) * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _pad(x: np.ndarray, value: np.ndarray, *, padding_config: Any, **_: Any) -> np.ndarray:
    if any(inner or low < 0 or high < 0 for low, high, inner in padding_config):
        return np.asarray(jax.lax.pad(x, value, padding_config))
    return np.pad(x, [(int(low), int(high)) for low, high, _inner in padding_config], constant_values=value)


def _split(x: np.ndarray, *, sizes: Any, axis: int, **_: Any) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _select(which: np.ndarray, *cases: np.ndarray, **_: Any) -> np.ndarray:
    return np.choose(which.astype(int), [np.broadcast_to(one, cases[0].shape) for one in cases])


def _dot(x: np.ndarray, y: np.ndarray, *, dimension_numbers: Any, **_: Any) -> np.ndarray:
    """Sums over the contracted axes; results have the batch axes first, then those left of x, then those left of y."""
    (of_x, of_y), (batch_x, batch_y) = dimension_numbers
    names_x, names_y = list(range(x.ndim)), [x.ndim + axis for axis in range(y.ndim)]
    for mine, other in zip((*of_x, *batch_x), (*of_y, *batch_y), strict=True):
        names_y[other] = names_x[mine]
    batch = [names_x[axis] for axis in batch_x]
    left_x = [name for axis, name in enumerate(names_x) if axis not in (*of_x, *batch_x)]
    left_y = [name for axis, name in enumerate(names_y) if axis not in (*of_y, *batch_y)]
    return np.einsum(x, names_x, y, names_y, batch + left_x + left_y)


def _rows(index: np.ndarray, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of rows, and which of them exist."""
    rows = index[..., 0]
    return np.clip(rows, 0, n_rows - 1), (rows >= 0) & (rows < n_rows)


def _gather(x: np.ndarray, index: np.ndarray, **parameters: Any) -> np.ndarray:
    """Whole rows along the first axis; anything else is left to JAX."""
    numbers, mode = parameters["dimension_numbers"], str(parameters["mode"])
    whole = tuple(parameters["slice_sizes"]) == (1, *x.shape[1:])
    batch = index.ndim - 1
    plain = (
        numbers.collapsed_slice_dims == (0,) and numbers.start_index_map == (0,) and not numbers.operand_batching_dims
    )
    if not (whole and plain and numbers.offset_dims == tuple(range(batch, batch + x.ndim - 1))):
        return np.asarray(jax.lax.gather_p.bind(x, index, **parameters))
    rows, exist = _rows(index, len(x))
    found = x[rows]
    if "FILL_OR_DROP" in mode and not exist.all():
        filler = parameters["fill_value"]
        empty = np.asarray(np.nan if filler is None and found.dtype.kind == "f" else filler or 0, found.dtype)
        found = np.where(exist.reshape(exist.shape + (1,) * (x.ndim - 1)), found, empty)
    return found


def _scatter_add(x: np.ndarray, index: np.ndarray, updates: np.ndarray, **parameters: Any) -> np.ndarray:
    """Whole rows along the first axis; anything else is left to JAX."""
    numbers, batch = parameters["dimension_numbers"], index.ndim - 1
    plain = (
        numbers.inserted_window_dims == (0,)
        and numbers.scatter_dims_to_operand_dims == (0,)
        and not numbers.operand_batching_dims
        and numbers.update_window_dims == tuple(range(batch, batch + x.ndim - 1))
        and updates.shape[batch:] == x.shape[1:]
    )
    if not plain:
        return np.asarray(jax.lax.scatter_add_p.bind(x, index, updates, **parameters))
    rows, exist = _rows(index, len(x))
    found = np.array(x)
    np.add.at(found, rows[exist], updates[exist])
    return found


def _only(function: Callable[..., Any]) -> Rule:
    """A rule of an operation whose parameters say nothing about its result."""
    return lambda *operands, **_: function(*operands)


RULES: Mapping[str, Rule] = {
    **{
        name: _only(function)
        for name, function in {
            "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
            "max": np.maximum, "min": np.minimum, "sqrt": np.sqrt, "square": np.square, "abs": np.abs,
            "sign": np.sign, "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "sin": np.sin,
            "cos": np.cos, "tan": np.tan, "tanh": np.tanh, "atan2": np.arctan2, "pow": np.power, "logistic": expit,
            "rsqrt": lambda x: 1.0 / np.sqrt(x), "lt": np.less, "le": np.less_equal, "gt": np.greater,
            "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "and": np.bitwise_and, "or": np.bitwise_or,
            "not": np.invert, "stop_gradient": lambda x: x, "copy": lambda x: x, "is_finite": np.isfinite,
            "convert_element_type": lambda x: x, "floor": np.floor, "ceil": np.ceil,
        }.items()
    },
    "div": lambda x, y, **_: x / y if x.dtype.kind == "f" else np.trunc(x / y),
    "integer_pow": lambda x, *, y, **_: x**y if y >= 0 else 1.0 / x**-y,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda x, *, new_sizes, **_: x.reshape(new_sizes),
    "transpose": lambda x, *, permutation, **_: x.transpose(permutation),
    "squeeze": lambda x, *, dimensions, **_: np.squeeze(x, tuple(dimensions)),
    "slice": _slice,
    "pad": _pad,
    "split": _split,
    "concatenate": lambda *parts, dimension, **_: np.concatenate(parts, dimension),
    "select_n": _select,
    "reduce_sum": lambda x, *, axes, **_: x.sum(axis=tuple(axes)),
    "reduce_max": lambda x, *, axes, **_: x.max(axis=tuple(axes)),
    "reduce_min": lambda x, *, axes, **_: x.min(axis=tuple(axes)),
    "dot_general": _dot,
    "gather": _gather,
    "scatter-add": _scatter_add,
}  # fmt: skip
"""By the name of the operation. Results are cast to the type that JAX has for them."""
