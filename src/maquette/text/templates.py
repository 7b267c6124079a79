"""Where the special tokens of a row go, for one text and for a pair."""

from itertools import chain
from typing import Any

Ids = list[int]
Part = tuple[str | int, int]  # "$A", "$B" or a special token's id; and its token type


class Scratch(dict[str, Any]):
    """What calls left behind: a pickle or copy has an empty one, so that a tokenizer's hash is that of its settings."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Scratch, ()


class Templates:
    """Puts special tokens around the ids of texts; the rows of every tokenizer are laid out by this."""

    _scratch: Scratch

    def _read_template(self, *, pair: bool) -> list[Part]:
        """Give the parts of a row, from what the tokenizer is made of."""
        raise NotImplementedError

    def _template(self, pair: bool) -> list[Part]:
        key = "pair template" if pair else "template"
        if key not in self._scratch:
            self._scratch[key] = self._read_template(pair=pair)
        template: list[Part] = self._scratch[key]
        return template

    def _around(self) -> tuple[Ids, Ids]:
        """Give the special tokens before and after a single text."""
        around: tuple[Ids, Ids] | None = self._scratch.get("around")
        if around is None:
            parts = [part for part, _ in self._template(False)]
            place = parts.index("$A")
            around = [int(part) for part in parts[:place]], [int(part) for part in parts[place + 1 :]]
            self._scratch["around"] = around
        return around

    def _specials_changed(self) -> None:
        self._scratch.clear()

    def _skipped_ids(self) -> set[int]:
        raise NotImplementedError

    def build_inputs_with_special_tokens(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Put the special tokens around the ids of a text, or of a pair."""
        if token_ids_1 is None:
            before, after = self._around()
            return [*before, *token_ids_0, *after]
        row: Ids = []
        for part, _ in self._template(token_ids_1 is not None):
            if part == "$A":
                row += token_ids_0
            elif part == "$B":
                row += token_ids_1
            else:
                row.append(int(part))
        return row

    def create_token_type_ids_from_sequences(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Tell of each token of a row, special ones included, which text it is of."""
        sizes = {"$A": len(token_ids_0), "$B": len(token_ids_1 or ())}
        types = ([kind] * sizes.get(str(part), 1) for part, kind in self._template(token_ids_1 is not None))
        return list(chain.from_iterable(types))

    def _template_mask(self, first: Ids, second: Ids | None) -> Ids:
        sizes = {"$A": len(first), "$B": len(second or ())}
        template = self._template(second is not None)
        if type(self).build_inputs_with_special_tokens is not Templates.build_inputs_with_special_tokens:
            special = self._skipped_ids()
            return [int(index in special) for index in self.build_inputs_with_special_tokens(first, second)]
        return list(chain.from_iterable([0] * sizes[str(p)] if str(p) in sizes else [1] for p, _ in template))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Count the special tokens of a row, of one text or of a pair."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))
