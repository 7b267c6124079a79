"""`ReportTexts`: what a model writes while it learns, for the report."""

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from maquette.errors import ConfigurationError
from maquette.training.callbacks import TrainerCallback
from maquette.training.model_states import is_sharded
from maquette.training.random_states import capture_states, restore_states

logger = logging.getLogger(__name__)

PARTS = 10  # of a run, unless `every` is given


class ReportTexts(TrainerCallback):
    """Has a model that generates continue the same prompts along the way; `report.html` shows what it wrote.

    It writes before the first step, every so many steps and after the last one, greedily, one prompt after the other,
    in the first process alone. The model's modes and all random states are afterwards what they were, so a run with it
    comes to the same weights. Texts are kept in checkpoints, and go on in a resumed run.

    Args:
        prompts: what is to be continued; for a model with an encoder, what that reads.
        every: steps from one time to the next; unless given, a tenth of the run.
        max_new_tokens: of each text.

    Raises:
        ConfigurationError: at the start of training: there is no tokenizer to read with, or nothing that generates.
        ValueError: no prompts, or numbers below 1.
    """

    def __init__(self, prompts: str | Iterable[str], *, every: int | None = None, max_new_tokens: int = 40) -> None:
        self.prompts = [prompts] if isinstance(prompts, str) else list(prompts)
        if not self.prompts or not all(isinstance(prompt, str) and prompt for prompt in self.prompts):
            raise ValueError(f"prompts={prompts!r}: give one text or several, none of them empty.")
        if (every is not None and every < 1) or max_new_tokens < 1:
            raise ValueError(f"every={every}, max_new_tokens={max_new_tokens}: both have to be 1 at least.")
        self.every, self.max_new_tokens = every, max_new_tokens
        self.texts: list[dict[str, Any]] = []
        self._failed = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write before the first step; what fails here fails before anything is learnt."""
        model, tokenizer = kwargs.get("model"), kwargs.get("processing_class")
        if not callable(tokenizer) or not hasattr(tokenizer, "decode"):
            raise ConfigurationError("ReportTexts needs the tokenizer: Trainer(…, processing_class=tokenizer).")
        if model is None or not hasattr(model, "generate"):
            raise ConfigurationError(f"ReportTexts needs a model that generates; {type(model).__name__} does not.")
        self._failed = is_sharded(model)  # where all processes would have to write together
        if self._failed and state.is_world_process_zero:
            logger.warning("ReportTexts writes nothing: the model is divided among processes.")
        if state.global_step == 0:
            self.texts = []
        state.texts = self.texts
        if not self._failed and state.is_world_process_zero and not self.texts:
            self._write(state.global_step, model, tokenizer)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write where it is time to."""
        every = self.every or max(1, state.max_steps // PARTS)
        if state.global_step % every == 0 or control.should_training_stop:
            self._try(state, kwargs)

    def state_dict(self) -> dict[str, Any]:
        return {"texts": [{**text, "seconds": 0.0} for text in self.texts]}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        self.texts = list(content["texts"])

    def _has(self, step: int) -> bool:
        return any(text["step"] == step for text in self.texts)

    def _try(self, state: Any, parts: dict[str, Any]) -> None:
        if self._failed or not state.is_world_process_zero or self._has(state.global_step):
            return
        try:
            self._write(state.global_step, parts["model"], parts["processing_class"])
        except Exception as error:  # whatever it is, training is worth more
            self._failed = True
            logger.warning("ReportTexts writes no more texts: %s", error, exc_info=True)

    def _write(self, step: int, model: Any, tokenizer: Any) -> None:
        with undisturbed(model):
            for prompt in self.prompts:
                began = time.perf_counter()
                text = self._continue(prompt, model, tokenizer)
                seconds = time.perf_counter() - began
                self.texts.append({"step": step, "prompt": prompt, "text": text, "seconds": seconds})

    def _continue(self, prompt: str, model: Any, tokenizer: Any) -> str:
        inputs = {name: value.to(model.device) for name, value in tokenizer(prompt, return_tensors="pt").items()}
        ids = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=self.max_new_tokens)[0]
        if not getattr(model.config, "is_encoder_decoder", False):
            ids = ids[inputs["input_ids"].shape[1] :]
        return str(tokenizer.decode(ids, skip_special_tokens=True))


@contextmanager
def undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Use a model in evaluation mode, and leave every module's mode and all random states as they were."""
    modes = [(module, module.training) for module in model.modules()]
    states = capture_states()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, is_training in modes:
            module.training = is_training
        restore_states(states)
