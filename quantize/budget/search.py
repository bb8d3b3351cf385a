"""Find the types of a file's tensors for a number of bytes: errors first, then measured effects.

1. Each type's error on each weight (`sensitivity`) gives a first choice within the budget.
2. The weights are put into groups by role and depth. Each group alone is rounded about as far as
   that choice would, and the divergence of the model's answers is measured (`probe`). That gives a
   group its weight: nats per unit of error.
3. Divergence grows with the square of a small change, as the error does, and small changes add up,
   so the sum of weight x error predicts it. The second choice minimises that sum.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from quantize.budget.allocation import Allocation, Choice, allocate, hull, padded
from quantize.budget.probe import Probe
from quantize.budget.reach import candidates, fixed_bytes, quantizable, require_within
from quantize.budget.sensitivity import Weighed, weigh
from quantize.config import BudgetConfig
from quantize.errors import BudgetError, LibraryError
from quantize.examples import ScoredText
from quantize.llama.ggml_tensor import Float32
from quantize.llama.gguf_header import read_header
from quantize.llama.quant_types import QuantType, table
from quantize.llama.quantizer import TypeChoice, planned
from quantize.llama.weights import weights

_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_TINY = 1e-12


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one group's measured effect."""

    name: str
    members: tuple[str, ...]
    error: float
    mean_kld_nats: float

    @property
    def nats_per_error(self) -> float:
        """Return what a unit of error costs here."""
        return max(self.mean_kld_nats, _TINY) / max(self.error, _TINY)


class Stock(msgspec.Struct, frozen=True, kw_only=True):
    """Predict one of llama.cpp's own mixes."""

    type_name: str
    file_bytes: int
    predicted_kld_nats: float


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the result of a search."""

    target_bytes: int
    file_bytes: int
    """Predicted; the file is no larger."""
    predicted_kld_nats: float
    quant_type: str
    """The stock type whose main tensor type is this file's."""
    types: dict[str, str]
    groups: tuple[Group, ...]
    stock: tuple[Stock, ...]
    """Those that fit the budget, best first."""


class Search:
    """Hold what is known of one reference file while a budget is searched."""

    def __init__(
        self,
        reference: Path,
        config: BudgetConfig,
        means: Mapping[str, Float32] | None,
        texts: Sequence[ScoredText],
    ) -> None:
        self.reference = reference
        self.config = config
        self.means = means
        self.texts = texts
        self.header = read_header(reference)
        held = weights(self.header)
        self.weights = {name: held[name] for name in quantizable(reference)}

    def run(
        self,
        target_bytes: int,
        *,
        known: Sequence[Group] = (),
        on_step: Callable[[int, int], None] | None = None,
        on_group: Callable[[Sequence[Group]], None] | None = None,
    ) -> Found:
        """Search; `known` groups are not measured again, `on_group` is told all known so far.

        Raises:
            BudgetError: when no choice fits, with the smallest file there is.
        """
        capacity = target_bytes - self.fixed_bytes
        weighed = self._weighed()
        smallest = sum(padded(entry.options[0].num_bytes) for entry in weighed)
        require_within(self.header, target_bytes, self.fixed_bytes + smallest)
        first = allocate(_offers(weighed, {}), capacity)
        groups = self._measured(weighed, first, list(known), on_step, on_group)
        costs = {name: group.nats_per_error for group in groups for name in group.members}
        best = allocate(_offers(weighed, costs), capacity)
        return Found(
            target_bytes=target_bytes,
            file_bytes=best.num_bytes + self.fixed_bytes,
            predicted_kld_nats=best.cost,
            quant_type=_main_type(weighed, best),
            types=best.types,
            groups=tuple(groups),
            stock=self._stock(weighed, costs, target_bytes),
        )

    @property
    def fixed_bytes(self) -> int:
        """Return what a file takes beside the weights that are chosen for."""
        return fixed_bytes(self.header, self.weights)

    def _weighed(self) -> list[Weighed]:
        found: list[Weighed] = []
        for types, names in self._by_types().items():
            found += weigh([self.weights[name] for name in names], types, self.means)
            without = [entry.name for entry in found if not entry.options]
            if without:
                raise BudgetError(f"{without[0]} can take none of the types {', '.join(types)}")
        return found

    def _by_types(self) -> dict[tuple[str, ...], list[str]]:
        """Return which weights choose from which types."""
        asked: dict[tuple[str, ...], list[str]] = {}
        for name in self.weights:
            asked.setdefault(candidates(self.config, name), []).append(name)
        return asked

    def _measured(
        self,
        weighed: Sequence[Weighed],
        first: Allocation,
        known: list[Group],
        on_step: Callable[[int, int], None] | None,
        on_group: Callable[[Sequence[Group]], None] | None,
    ) -> list[Group]:
        by_name = {entry.name: entry for entry in weighed}
        wanted = grouped(list(by_name), self.config.probes)
        done = {group.name: group for group in known}
        with Probe(self.reference, self.weights, self.texts, self.means) as probe:
            for number, (name, members) in enumerate(wanted.items(), start=1):
                if name not in done:
                    tried = {one: _coarser(by_name[one], first.types[one]) for one in members}
                    error = sum(_error(by_name[one], kind) for one, kind in tried.items())
                    done[name] = Group(
                        name=name,
                        members=tuple(members),
                        error=error,
                        mean_kld_nats=probe.mean_kld(tried),
                    )
                    if on_group is not None:
                        on_group(list(done.values()))
                if on_step is not None:
                    on_step(number, len(wanted))
        return [done[name] for name in wanted]

    def _stock(
        self, weighed: Sequence[Weighed], costs: Mapping[str, float], target_bytes: int
    ) -> tuple[Stock, ...]:
        """Predict the library's own mixes from the same errors and weights."""
        found = []
        for entry in table().values():
            if entry.uses_imatrix and (self.means or not entry.needs_imatrix):
                stock = self._predicted(entry, weighed, costs)
                if stock is not None and stock.file_bytes <= target_bytes:
                    found.append(stock)
        return tuple(sorted(found, key=lambda stock: stock.predicted_kld_nats))

    def _predicted(
        self, entry: QuantType, weighed: Sequence[Weighed], costs: Mapping[str, float]
    ) -> Stock | None:
        try:
            types = planned(self.reference, TypeChoice(quant_type=entry), imatrix=self.means).types
        except LibraryError:
            return None  # a type without a fallback for this model's shapes
        pairs = [(weight, weight.option(types[weight.name])) for weight in weighed]
        if any(option is None for _, option in pairs):
            return None
        chosen = [(weight, option) for weight, option in pairs if option is not None]
        return Stock(
            type_name=entry.name,
            file_bytes=self.fixed_bytes + sum(padded(option.num_bytes) for _, option in chosen),
            predicted_kld_nats=sum(costs[weight.name] * option.error for weight, option in chosen),
        )


def grouped(names: Sequence[str], num_groups: int) -> dict[str, list[str]]:
    """Put weights of one role and neighbouring layers together, in about `num_groups` groups."""
    places = {name: found for name in names if (found := _BLOCK.match(name))}
    roles = sorted({found[2] for found in places.values()})
    num_layers = 1 + max((int(found[1]) for found in places.values()), default=0)
    alone = len(names) - len(places)
    bands = min(num_layers, max(1, (num_groups - alone) // max(1, len(roles))))
    groups: dict[str, list[str]] = {}
    for name in names:
        found = places.get(name)
        key = f"{found[2]} {int(found[1]) * bands // num_layers}" if found else name
        groups.setdefault(key, []).append(name)
    return groups


def _offers(weighed: Sequence[Weighed], costs: Mapping[str, float]) -> dict[str, list[Choice]]:
    return {
        entry.name: [
            Choice(
                type_name=option.type_name,
                num_bytes=padded(option.num_bytes),
                cost=option.error * costs.get(entry.name, 1.0),
            )
            for option in entry.options
        ]
        for entry in weighed
    }


def _coarser(weighed: Weighed, type_name: str) -> str:
    """Return the next smaller type worth having; a clearer signal than the type itself."""
    corners = hull(_offers([weighed], {})[weighed.name])
    size = padded(_option_bytes(weighed, type_name))
    below = [corner for corner in corners if corner.num_bytes < size]
    return (below[-1] if below else corners[0]).type_name


def _option_bytes(weighed: Weighed, type_name: str) -> int:
    option = weighed.option(type_name)
    assert option is not None  # it was chosen from these
    return option.num_bytes


def _error(weighed: Weighed, type_name: str) -> float:
    option = weighed.option(type_name)
    assert option is not None  # it was chosen from these
    return option.error


def _main_type(weighed: Sequence[Weighed], chosen: Allocation) -> str:
    """Return the stock type named after the tensor type that holds most weights."""
    shares: dict[str, int] = {}
    for entry in weighed:
        kind = chosen.types[entry.name]
        shares[kind] = shares.get(kind, 0) + entry.num_elements
    known = table()
    for kind in sorted(shares, key=lambda kind: -shares[kind]):
        for name in (kind, f"{kind}_m"):
            if name in known and known[name].uses_imatrix:
                return name
    return "q8_0"
