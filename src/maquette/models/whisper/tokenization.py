"""Whisper's tokenizers, of both kinds: byte-level BPE, with languages, tasks and times around and among the words."""

from typing import Any, ClassVar

import numpy as np
from tokenizers.processors import TemplateProcessing

from maquette import ByteLevelBPETokenizer, ByteLevelBPETokenizerFast, InputError
from maquette.batch.tensors import to_tensor
from maquette.text.id_rows import read_id_rows
from maquette.text.time_stamps import TIME, decode_with_times, find_stretches

from .languages import check_task, language_code

START, PREVIOUS, NO_TIMES = "<|startoftranscript|>", "<|startofprev|>", "<|notimestamps|>"
STEP, WINDOW = 0.02, 1500  # seconds of a time, and times of a window


class WhisperTokens:
    """What both kinds share, before the kind: what stands around a text, and how times among its ids are read.

    Args:
        language: of the texts, such as "german" or "de"; its token stands behind the start.
        task: "transcribe" or "translate".
        predict_timestamps: whether the texts have times; otherwise a token behind the task says that they have none.
    """

    default_tokens: ClassVar[dict[str, str]] = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "<|endoftext|>")
    _is_laid_out = False

    def __init__(
        self: Any,
        *args: Any,
        language: str | None = None,
        task: str | None = None,
        predict_timestamps: bool = False,
        **kwargs: Any,
    ) -> None:
        self.language, self.task, self.predict_timestamps = language, task, predict_timestamps
        super().__init__(*args, **kwargs)
        self._is_laid_out = True
        self.set_prefix_tokens()

    # Around a text

    def set_prefix_tokens(
        self: Any, language: str | None = None, task: str | None = None, predict_timestamps: bool | None = None
    ) -> None:
        """Say anew what texts begin with; what is not given stays.

        Raises:
            InputError: there is no such language or task.
        """
        language, task = (self.language if language is None else language), (self.task if task is None else task)
        _ = language is None or language_code(language), task is None or check_task(task)
        self.language, self.task = language, task
        self.predict_timestamps = self.predict_timestamps if predict_timestamps is None else predict_timestamps
        self._specials_changed()

    def _prefix(self: Any) -> list[tuple[str, int]]:
        """Give the tokens that texts begin with, as far as the vocabulary has them."""
        names = [START]
        names += [f"<|{language_code(self.language)}|>"] if self.language is not None else []
        names += [f"<|{self.task}|>"] if self.task is not None else []
        names += [] if self.predict_timestamps else [NO_TIMES]
        return [(name, index) for name in names if (index := self._find_id(name)) is not None]

    @property
    def prefix_tokens(self) -> list[int]:
        """The ids that texts begin with: the start, the language, the task, and whether there are no times."""
        return [index for _, index in self._prefix()]

    def _specials_changed(self: Any) -> None:
        if self._is_laid_out and self.eos_token_id is not None:
            special = [*self._prefix(), (self.eos_token, self.eos_token_id)]
            before, end = [f"{name}:0" for name, _ in special[:-1]], f"{self.eos_token}:0"
            self._backend.post_processor = TemplateProcessing(
                single=[*before, "$A:0", end],
                pair=[*before, "$A:0", "$B:1", end.replace(":0", ":1")],
                special_tokens=list(dict(special).items()),
            )
        super()._specials_changed()  # type: ignore[misc]

    def get_decoder_prompt_ids(
        self, task: str | None = None, language: str | None = None, no_timestamps: bool = True
    ) -> list[tuple[int, int]]:
        """Give the tokens behind the start with their places, as `forced_decoder_ids` of older models have them."""
        self.set_prefix_tokens(language, task, not no_timestamps)
        return list(enumerate(self.prefix_tokens))[1:]

    def get_prompt_ids(self: Any, text: str, return_tensors: str | None = "np") -> Any:
        """Give the ids of what was said before, `(length,)`, for `generate(prompt_ids=…)`.

        Raises:
            InputError: there is a special token in the text.
        """
        ids = self(" " + text.strip(), add_special_tokens=False)["input_ids"]
        if special := [index for index in ids if index in self._skipped_ids() or index >= self._first_time()]:
            raise InputError(f"The prompt {text!r:.60} has the special token {self._token_of(special[0])!r}: drop it.")
        ids = [self.convert_tokens_to_ids(PREVIOUS), *ids]
        return ids if return_tensors is None else to_tensor(np.array(ids), return_tensors)

    # From ids to text

    def _first_time(self: Any) -> int:
        """Give the id of the first time, which need not be in the vocabulary."""
        found = self._find_id(NO_TIMES)
        return 2**31 if found is None else int(found) + 1

    def timestamp_ids(self, time_precision: float = STEP) -> list[int]:
        """Give the ids of the times of a window."""
        return [self._first_time() + step for step in range(WINDOW + 1)]

    def decode(
        self: Any,
        token_ids: Any,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        *,
        output_offsets: bool = False,
        time_precision: float = STEP,
        decode_with_timestamps: bool = False,
        normalize: bool = False,
        basic_normalize: bool = False,
        **unknown: Any,
    ) -> Any:
        """Give the text of a row of ids; a batch gives a list.

        Args:
            token_ids: a list, an array, or a tensor of any framework.
            skip_special_tokens: leave special tokens out, and what was said before the text.
            clean_up_tokenization_spaces: take out the spaces before punctuation and inside contractions.
            output_offsets: give `{"text": …, "offsets": [{"text": …, "timestamp": (start, end)}, …]}`, in seconds.
            time_precision: seconds of a time's step.
            decode_with_timestamps: leave times in the text, counted from the start of the recording.
            normalize, basic_normalize: not here; see Raises.

        Raises:
            InputError: normalised text is asked for, which the package whisper-normalizer gives.
        """
        if normalize or basic_normalize:
            raise InputError(
                "normalize and basic_normalize are for word error rates, and not here: decode without them, and "
                "normalise reference and text alike, with the package whisper-normalizer, say."
            )
        self._check_decoding(unknown)
        rows = read_id_rows(token_ids)
        if rows.batched:
            how: dict[str, Any] = {"output_offsets": output_offsets, "time_precision": time_precision}
            how |= {"decode_with_timestamps": decode_with_timestamps}
            how |= {"clean_up_tokenization_spaces": clean_up_tokenization_spaces}
            return self.batch_decode(rows.split(), skip_special_tokens, **how)
        ids = rows.ids.tolist()
        kept = self._strip_prompt(ids) if skip_special_tokens else ids

        def words(part: list[int]) -> str:
            plain: str = super(WhisperTokens, self).decode(part, skip_special_tokens, clean_up_tokenization_spaces)  # type: ignore[misc]
            return plain

        how = {"begin": self._first_time(), "window": WINDOW}
        if decode_with_timestamps:
            text = decode_with_times(kept, words, precision=time_precision, **how)
        else:
            text = TIME.sub("", words([index for index in kept if index < how["begin"]]))
        if not output_offsets:
            return text
        offsets = [
            {"text": words(part), "timestamp": (start * time_precision, end * time_precision)}
            for start, end, part in find_stretches(ids, **how)
        ]
        return {"text": text, "offsets": offsets}

    def _strip_prompt(self: Any, ids: list[int]) -> list[int]:
        """Leave out what was said before the text."""
        if not ids or ids[0] != self._find_id(PREVIOUS):
            return ids
        start = self._find_id(START)
        return ids[ids.index(start) :] if start in ids else []


class WhisperTokenizer(WhisperTokens, ByteLevelBPETokenizer):
    """Whisper's tokenizer in Python; takes what `WhisperTokens` and `ByteLevelBPETokenizer` take."""


class WhisperTokenizerFast(WhisperTokens, ByteLevelBPETokenizerFast):
    """Whisper's tokenizer over the Rust library; gives the same ids, and where in the text each token is from."""

    slow_tokenizer_class = WhisperTokenizer
