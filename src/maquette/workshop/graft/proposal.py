"""Which tensors of a checkpoint belong to which of a model: by what names say, by shapes, and by places in the blocks.

What these leave open is asked: which way round a square matrix is, which of two twins is meant, how queries, keys and
values lie in one tensor.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from maquette.errors import InputError, did_you_mean
from maquette.workshop.graft.roles import Role, read_roles
from maquette.workshop.graft.weight_map import Question, Rule, Shape, WeightMap

ROUND, QKV, ROTARY, GATE_UP = "orientation", "qkv", "rotary", "gate_up"
BY_TURNS = "by turns"
HALVES, PAIRS = "half by half", "in pairs"
TURNED = ("attention.q", "attention.k")
HALVED = ("q_proj", "k_proj", "query", "key")  # as Transformers calls these
LAYERS, EXPERTS = ("Linear", "Conv1D"), "experts"
AS_IT_IS, TRANSPOSED = "as it is", "transposed"
ONE_AFTER_ANOTHER, IN_EACH_HEAD = "one after the other", "within each head"
THREE = ("attention.q", "attention.k", "attention.v")
IN_BLOCKS = ("attention", "mlp", "norm", "expert", "conv", "router")  # where a part with a number is a block's
CONCATENATED = ("in_proj", "c_attn")  # torch's and GPT-2's, one after the other


@dataclass
class Proposer:
    """Proposes a map.

    Args:
        shapes: of the checkpoint's tensors.
        targets: of the model's.
        layers: the class of the layer that each of the model's tensors belongs to.
        source_layers: the same of the checkpoint's, where it came as a module.
        heads: how many heads of attention the model has.
        answers: to questions, by their names.
        is_rotary: queries and keys of the model are turned by their positions.
        is_same: the checkpoint says that it is of the model's own architecture, whose layers it has as they are.
        prefix: what names of tensors of the base model begin with in the model, such as "bert".
    """

    shapes: Mapping[str, Shape]
    targets: Mapping[str, Shape]
    layers: Mapping[str, str]
    source_layers: Mapping[str, str] = field(default_factory=dict)
    heads: int | None = None
    answers: Mapping[str, str] = field(default_factory=dict)
    is_rotary: bool = False
    is_same: bool = False
    prefix: str = ""

    def propose(self) -> WeightMap:
        """Give the map, as far as it is known, and what has to be answered.

        Raises:
            InputError: an answer that is none of the choices, or to a question that there is not.
        """
        self.questions: dict[str, Question] = {}
        self.roles, self.wanted = read_roles(self.shapes), read_roles(self.targets)
        self._settle_depth()
        by_role: dict[Role, list[str]] = {}
        for name, role in self.roles.items():
            by_role.setdefault(role, []).append(name)
        self.by_role = by_role
        rules = {name: rule for name in self.targets if (rule := self._find(name)) is not None}
        rules |= self._match_rest(rules)
        found = self._settle_squares([rules[name] for name in self.targets if name in rules])
        found = self._settle_rotary(found) if self.is_rotary else found
        used = {name for rule in rules.values() for name in rule.sources}
        asked = {name for question in self.questions.values() for name in question.choices}
        self._check_answers()
        return WeightMap(
            found,
            list(self.questions.values()),
            [name for name in self.targets if name not in rules],
            [name for name in self.shapes if name not in used | asked],
        )

    def _check_answers(self) -> None:
        known = {*self.questions, *self.answered}
        for name in self.answers:
            if name not in known:
                raise InputError(f"There is no question {name!r} to answer.{did_you_mean(name, known)}")

    @property
    def answered(self) -> set[str]:
        """The questions that an answer was there for."""
        found: set[str] = self.__dict__.setdefault("_answered", set())
        return found

    def _ask(self, name: str, text: str, choices: tuple[str, ...], target: str) -> str | None:
        """Give the answer to a question; None where there is none yet, and it is kept for the caller.

        Raises:
            InputError: it is none of the choices.
        """
        given = self.answers.get(name)
        if given is None:
            asked = self.questions.setdefault(name, Question(name, text, choices))
            self.questions[name] = replace(asked, targets=(*asked.targets, target))
            return None
        if given not in choices:
            raise InputError(
                f"{name}={given!r} is no answer; {text} Choose: {', '.join(map(repr, choices))}."
                f"{did_you_mean(given, choices)}"
            )
        self.answered.add(name)
        return given

    # By names -----------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Rule | None:
        role = self.wanted[name]
        place = self._block_of(role)
        if place in self.open_depths:
            question = self.questions[self.open_depths[place]]
            self.questions[question.name] = replace(question, targets=(*question.targets, name))
            return None
        for spelt in (name, name.removeprefix(f"{self.prefix}."), f"{self.prefix}.{name}"):
            if place not in self.depths and spelt in self.shapes and self._fits(spelt, name):
                return self._plain(name, spelt, "certain", "the same name")
        if not role.part:
            return None
        same = [source for source in self.by_role.get(role, []) if self._fits(source, name)]
        if len(same) > 1:
            chosen = self._ask(name, f"Several tensors have the part of {name}.", tuple(same), name)
            same = [] if chosen is None else [chosen]
            return self._plain(name, same[0], "answered", "as you said") if same else None
        if same:
            return self._plain(name, same[0], "certain", f"both are {role.part}")
        prefix, _, part = role.part.rpartition(":")
        side = f"{prefix}:" if prefix else ""
        for cross in ("", "cross_"):
            if part in [cross + one for one in THREE]:
                return self._part_of(name, role._replace(part=f"{side}{cross}attention.qkv"), part)
            if part == f"{cross}attention.qkv":
                return self._joined(name, [role._replace(part=f"{side}{cross}{one}") for one in THREE])
        if part.startswith(("expert.", "mlp.")):
            return self._gated(name, role, side, part)
        return None

    # Blocks -------------------------------------------------------------------------------------------------------

    def _settle_depth(self) -> None:
        """Ask which blocks are taken where the checkpoint has more of them, and number these as the model has them."""
        self.depths: set[tuple[str, tuple[int, ...]]] = set()
        self.open_depths: dict[tuple[str, tuple[int, ...]], str] = {}
        theirs, ours = (_count_blocks(roles) for roles in (self.roles, self.wanted))
        for place, count in ours.items():
            there = theirs.get(place, 0)
            if there <= count:
                continue
            self.depths.add(place)
            side, numbers = place
            name = "-".join(["blocks", *filter(None, [side]), *map(str, numbers)])
            of = f" of the {side}" if side else f" of stage {numbers[0]}" if numbers else ""
            text = (
                f"The checkpoint has {there} blocks{of}, the model {count}. Which ones does it take, in this order? "
                "Other numbers can be given, too."
            )
            chosen = self._choose_blocks(name, text, there, count)
            if chosen is None:
                self.open_depths[place] = name
                continue
            for source, role in self.roles.items():
                if self._block_of(role) == place:
                    depth = len(numbers)
                    new = chosen.index(role.numbers[depth]) if role.numbers[depth] in chosen else -1
                    self.roles[source] = role._replace(numbers=(*numbers, new, *role.numbers[depth + 1 :]))

    def _choose_blocks(self, name: str, text: str, there: int, count: int) -> list[int] | None:
        evenly = [round(n * (there - 1) / max(count - 1, 1)) for n in range(count)]
        ways = ([*range(count)], evenly, [*range(there - count, there)])
        choices = tuple(dict.fromkeys(", ".join(map(str, way)) for way in ways))
        given = self.answers.get(name)
        if given is not None and re.fullmatch(r"\s*\d+(\s*,\s*\d+)*\s*", given):
            numbers = [int(number) for number in given.split(",")]
            if len({*numbers}) == count == len(numbers) and max(numbers) < there:
                self.answered.add(name)
                return numbers
        self._ask(name, text, choices, "")
        self.questions[name] = replace(self.questions[name], targets=())
        return None

    def _block_of(self, role: Role) -> tuple[str, tuple[int, ...]] | None:
        """Name the list of blocks that a tensor's block is in: its side, and the stage where there are several."""
        found = _lists_of(role)
        return next((place for place in found if place in self.depths), None)

    def _fits(self, source: str, target: str) -> bool:
        """Tell whether one tensor can become another one without being taken apart."""
        ours, theirs = self.targets[target], self.shapes[source]
        if ours == theirs or (len(ours) == 2 and ours == theirs[::-1]):
            return True
        flat = [tuple(size for size in shape if size != 1) for shape in (ours, theirs)]
        return math.prod(ours) == math.prod(theirs) and flat[0] == flat[1]

    def _plain(self, target: str, source: str, confidence: str, reason: str) -> Rule:
        ours, theirs = self.targets[target], self.shapes[source]
        turns = len(ours) == 2 and ours != theirs and ours == theirs[::-1]
        return Rule(target, (source,), ours, (theirs,), transpose=turns, confidence=confidence, reason=reason)

    def _part_of(self, name: str, whole: Role, part: str) -> Rule | None:
        """Take queries, keys or values out of the tensor that holds all three."""
        sources = self.by_role.get(whole, [])
        if len(sources) != 1:
            return None
        source, shape, ours = sources[0], self.shapes[sources[0]], self.targets[name]
        siblings = [self._sibling(name, one) for one in THREE]
        if any(sibling is None for sibling in siblings):
            return None
        sizes = tuple(self.targets[sibling][0] for sibling in siblings if sibling)
        if self._layer(name) == "Conv1D":
            return None
        turned = len(shape) == 2 and shape[0] != sum(sizes) and shape[1] == sum(sizes)
        if (shape[::-1] if turned else shape) != (sum(sizes), *ours[1:]):
            return None
        place = next(number for number, one in enumerate(THREE) if part.endswith(one))
        rule = Rule(name, (source,), ours, (shape,), transpose=turned, split=(place, sizes))
        if any(word in source.lower() for word in CONCATENATED) or self._joins(source, shape):
            return replace(rule, reason="queries, keys and values are joined under this name")
        text = "Queries, keys and values are one tensor each block. How do they lie in it?"
        how = self._ask(QKV, text, (ONE_AFTER_ANOTHER, IN_EACH_HEAD), name)
        if how is None:
            return None
        groups = None
        if how == IN_EACH_HEAD and self.heads:  # with fewer heads of keys, all queries of such a head come first
            groups = sizes[1] // (sizes[0] // self.heads)
        return replace(rule, heads=groups, confidence="answered", reason="as you said")

    def _joins(self, source: str, shape: Shape) -> bool:
        """Tell whether a layer of timm's, which joins them, is the source: its name alone would not say so."""
        return bool(self.source_layers) and ".qkv." in source and "blocks." in source

    def _sibling(self, name: str, part: str) -> str | None:
        """Find the model's tensor of the same block that has another part."""
        role = self.wanted[name]
        head = role.part[: role.part.rindex("attention.")]
        return next((other for other, its in self.wanted.items() if its == role._replace(part=head + part)), None)

    def _joined(self, name: str, roles: list[Role]) -> Rule | None:
        """Join queries, keys and values to the tensor that holds all three."""
        found = [self.by_role.get(role, []) for role in roles]
        if any(len(some) != 1 for some in found):
            return None
        sources = tuple(some[0] for some in found)
        shapes = tuple(self.shapes[source] for source in sources)
        whole = (sum(shape[0] for shape in shapes), *shapes[0][1:])
        ours = self.targets[name]
        if ours not in (whole, whole[::-1]):
            return None
        turned = ours != whole
        return Rule(name, sources, ours, shapes, transpose=turned, reason="queries, keys and values, joined")

    def _gated(self, name: str, role: Role, side: str, part: str) -> Rule | None:
        """Take an expert, or half of a gate and what it gates, out of the tensor that holds more."""
        kind, _, half = part.partition(".")
        numbers = role.numbers[:-1] if kind == "expert" else role.numbers
        for whole in (half, "gate_up"):
            sources = self.by_role.get(Role(f"{side}{kind}.{whole}", role.kind, numbers), [])
            sources += self.by_role.get(Role(f"{side}{kind}.{whole}", "", numbers), [])
            if len(sources) != 1 or (whole == half and kind == "mlp"):
                continue
            shape, ours = self.shapes[sources[0]], self.targets[name]
            select = role.numbers[-1] if kind == "expert" else None
            if select is not None and (len(shape) != len(ours) + 1 or shape[0] <= select):
                continue
            each = shape[1:] if select is not None else shape
            parts = 1 if whole == half else 2
            straight, turned = (parts * ours[0], *ours[1:]), (*ours[1:], parts * ours[0])
            if each not in (straight, turned) or half not in ("gate", "up", "down"):
                continue
            split = None if parts == 1 else (int(half == "up"), (ours[0], ours[0]))
            reason = "one expert of those in one tensor" if select is not None else "a gate, and what it gates, in one"
            rule = Rule(name, (sources[0],), ours, (shape,), select=select, split=split, reason=reason)
            if split is not None:
                text = "A gate and what it gates are one tensor. How do their rows lie in it?"
                how = self._ask(GATE_UP, text, (ONE_AFTER_ANOTHER, BY_TURNS), name)
                if how is None:
                    return None
                rule = replace(rule, heads=ours[0] if how == BY_TURNS else None, confidence="answered")
            return replace(rule, transpose=each != straight)
        return None

    # By shapes ----------------------------------------------------------------------------------------------------

    def _match_rest(self, rules: Mapping[str, Rule]) -> dict[str, Rule]:
        """Match what names left over: where one tensor alone has the shape and the place, it is likely; else asked."""
        used = {source for rule in rules.values() for source in rule.sources}
        left = [name for name in self.shapes if name not in used]
        waiting = {name for question in self.questions.values() for name in question.targets}
        open_targets = [name for name in self.targets if name not in rules and name not in waiting]
        found: dict[str, Rule] = {}
        for name in open_targets:
            choices = [source for source in left if self._could_be(source, name)]
            rivals = [other for other in open_targets if any(self._could_be(source, other) for source in choices)]
            if not choices or (self.wanted[name].part and all(self.roles[source].part for source in choices)):
                continue
            if len(choices) == 1 == len(rivals):
                found[name] = self._plain(name, choices[0], "likely", "nothing else has its shape and place")
                continue
            text = f"{len(choices)} tensors have the shape and the place of {name}."
            if (chosen := self._ask(name, text, tuple(choices), name)) is not None:
                found[name] = self._plain(name, chosen, "answered", "as you said")
        return found

    def _could_be(self, source: str, target: str) -> bool:
        theirs, ours = self.roles[source], self.wanted[target]
        if theirs.part and ours.part and theirs.part != ours.part:
            return False
        numbers = min(len(theirs.numbers), len(ours.numbers))
        return (
            theirs.kind == ours.kind
            and theirs.numbers[:numbers] == ours.numbers[:numbers]
            and (self._fits(source, target))
        )

    # Which way round ----------------------------------------------------------------------------------------------

    def _settle_squares(self, rules: list[Rule]) -> list[Rule]:
        """Turn square matrices as the others of their kind of layer are; where there are none, ask."""
        if self.open_depths:  # the matrices of blocks, which tell, are not there yet
            return rules
        ways: dict[str, set[bool]] = {}
        for rule in rules:
            matrix = self._matrix(rule)
            if matrix and matrix[0] != matrix[1]:
                ways.setdefault(self._layer(rule.target), set()).add(rule.transpose)
        settled = []
        for rule in rules:
            matrix = self._matrix(rule)
            if not matrix or matrix[0] != matrix[1]:
                settled.append(rule)
                continue
            kind, mine = self._layer(rule.target), self.source_layers.get(rule.sources[0])
            way = ways.get(kind, set())
            if mine in LAYERS and kind in LAYERS:
                settled.append(replace(rule, transpose=mine != kind, reason=f"{rule.reason}; {mine} to {kind}"))
            elif self.is_same and rule.reason == "the same name":
                settled.append(replace(rule, reason="the same name, in the same architecture"))
            elif len(way) == 1:
                settled.append(replace(rule, transpose=way == {True}, reason=f"{rule.reason}; turned as the others"))
            else:
                text = "Square matrices look alike both ways, and no other tells. How does the checkpoint keep them?"
                answer = self._ask(ROUND, text, (AS_IT_IS, TRANSPOSED), rule.target)
                if answer is not None:
                    settled.append(replace(rule, transpose=answer == TRANSPOSED, confidence="answered"))
        return settled

    def _settle_rotary(self, rules: list[Rule]) -> list[Rule]:
        """Ask how the rows of queries and keys lie that are turned together, where the names do not tell."""
        settled = []
        for rule in rules:
            last = rule.sources[0].lower().split(".")[-2:]
            if self.wanted[rule.target].part not in TURNED or {*last} & {*HALVED} or self.heads is None:
                settled.append(rule)
                continue
            text = "Rotary positions turn two rows of queries and keys at a time. How does the checkpoint keep them?"
            answer = self._ask(ROTARY, text, (HALVES, PAIRS), rule.target)
            queries = self._sibling(rule.target, "attention.q")
            if answer is not None and queries is not None:
                width = self.targets[queries][0] // self.heads
                pairs = self.targets[rule.target][0] // width if answer == PAIRS else None
                settled.append(replace(rule, rotary=pairs, confidence="answered"))
        return settled

    def _matrix(self, rule: Rule) -> Shape | None:
        """Give the shape of the matrix that may be turned; None for what is no layer's weight."""
        if self._layer(rule.target) not in (*LAYERS, EXPERTS):
            return None
        shape = rule.shape if len(rule.sources) > 1 else rule.source_shapes[0]
        shape = shape[1:] if rule.select is not None else shape
        return shape if len(shape) == 2 else None

    def _layer(self, target: str) -> str:
        """Name the class of a tensor's layer; experts are a class of their own, however they are kept."""
        return EXPERTS if self.wanted[target].part.startswith("expert.") else self.layers.get(target, "")


def _lists_of(role: Role) -> list[tuple[str, tuple[int, ...]]]:
    """Name the lists of blocks that a tensor lies in, from the outermost one; experts are no blocks."""
    side, _, part = role.part.rpartition(":")
    kind = part.partition(".")[0].removeprefix("cross_")
    if kind not in IN_BLOCKS:
        return []
    depth = len(role.numbers) - (kind == "expert")
    return [(side, role.numbers[:place]) for place in range(max(depth, 0))]


def _count_blocks(roles: Mapping[str, Role]) -> dict[tuple[str, tuple[int, ...]], int]:
    """Count the blocks of each list."""
    found: dict[tuple[str, tuple[int, ...]], set[int]] = {}
    for role in roles.values():
        for place in _lists_of(role):
            found.setdefault(place, set()).add(role.numbers[len(place[1])])
    return {place: len(some) for place, some in found.items()}


def layers_of(module: nn.Module) -> dict[str, str]:
    """Name the class of the layer that each tensor of a module belongs to; subclasses of torch's count as these."""
    found = {}
    for start, layer in module.named_modules(remove_duplicate=False):
        kind = next((base.__name__ for base in type(layer).__mro__ if base in (nn.Linear, nn.Embedding)), None)
        for name in [*layer._parameters, *layer._buffers]:
            found[f"{start}.{name}" if start else name] = kind or type(layer).__name__
    return found


def count_heads(config: Any) -> int | None:
    """Say how many heads of attention a configuration has."""
    for name in ("num_attention_heads", "n_heads", "n_head", "num_heads", "encoder_attention_heads"):
        if isinstance(value := getattr(config, name, None), int):
            return value
    return None
