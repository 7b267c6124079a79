"""Evaluation by what a model writes, against `generate` called by hand."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maquette import (
    ConfigurationError,
    DataCollatorForSeq2Seq,
    GenerationConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    TrainingArguments,
    UnknownFieldError,
    WordPieceTokenizer,
)

TEXTS = [([5, 6, 7, 1], [8, 9, 1]), ([8, 1], [10, 1]), ([9, 10, 11, 12, 13, 1], [5, 6, 7, 8, 1]), ([20, 1], [1])]


@pytest.fixture
def model() -> T5ForConditionalGeneration:
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0, initializer_factor=4.0)).eval()


@pytest.fixture
def tokenizer(tmp_path: Any) -> WordPieceTokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (tmp_path / "vocab.txt").write_text("\n".join([*special, *"abcdefgh"]))
    return WordPieceTokenizer(tmp_path / "vocab.txt")


@pytest.fixture
def make(tmp_path: Any, model: Any, tokenizer: Any) -> Any:
    rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels} for ids, labels in TEXTS]

    def make_trainer(compute_metrics: Any = None, **options: Any) -> Seq2SeqTrainer:
        usual = {"per_device_eval_batch_size": 3, "disable_tqdm": True, "save_strategy": "no", "max_steps": 1}
        args = Seq2SeqTrainingArguments(tmp_path / "out", **{**usual, "predict_with_generate": True, **options})
        collate = DataCollatorForSeq2Seq(tokenizer, model)
        more = {"compute_metrics": compute_metrics, "data_collator": collate, "processing_class": tokenizer}
        return Seq2SeqTrainer(model, args, train_dataset=rows, eval_dataset=rows, **more)

    return make_trainer


def write(model: Any, **settings: Any) -> np.ndarray:
    ids = model.generate([ids for ids, _ in TEXTS], **settings)
    return ids.numpy()


def test_predictions_are_what_generate_gives(make: Any, model: Any) -> None:
    trainer = make(generation_max_length=7)
    found = trainer.predict(trainer.eval_dataset)
    expected = write(model, max_length=7)
    assert found.predictions.shape == (4, 7) and found.predictions[:, : expected.shape[1]].tolist() == expected.tolist()
    assert not (found.predictions[:, expected.shape[1] :] != 0).any()  # padded with the model's padding
    assert found.label_ids.tolist() == [labels + [-100] * (5 - len(labels)) for _, labels in TEXTS]
    assert found.metrics["test_loss"] > 0
    beams = trainer.predict(trainer.eval_dataset, num_beams=3, max_new_tokens=4).predictions
    expected = write(model, num_beams=3, max_new_tokens=4)
    assert beams.shape == (4, 5) and beams[:, : expected.shape[1]].tolist() == expected.tolist()
    assert trainer.predict(trainer.eval_dataset).predictions.tolist() == found.predictions.tolist()


def test_metrics_get_ids_while_training_too(make: Any, model: Any) -> None:
    seen = []

    def measure(given: Any) -> dict[str, float]:
        seen.append(given.predictions)
        return {"width": given.predictions.shape[1]}

    config = GenerationConfig(max_length=6, num_beams=2)
    trainer = make(measure, generation_config=config, eval_strategy="steps", eval_steps=1, logging_steps=1)
    assert (
        trainer.model.generation_config.num_beams == 2 and trainer.args.to_dict()["generation_config"]["num_beams"] == 2
    )
    trainer.train()
    assert [e["eval_width"] for e in trainer.state.log_history if "eval_width" in e] == [6]
    assert seen[-1].shape == (4, 6) and seen[-1].dtype == np.int64
    assert trainer.evaluate(max_length=9, metric_key_prefix="late")["late_width"] == 9


def test_without_it_scores_are_predicted(make: Any, tmp_path: Any, model: Any) -> None:
    GenerationConfig(max_new_tokens=3).save_pretrained(tmp_path / "settings")
    trainer = make(predict_with_generate=False, generation_config=tmp_path / "settings")
    assert trainer.model.generation_config.max_new_tokens == 3
    found = trainer.predict(trainer.eval_dataset).predictions
    assert found["logits"].shape == (4, 5, 32)


def test_what_does_not_go_together(make: Any, tmp_path: Any) -> None:
    with pytest.raises(UnknownFieldError, match="Seq2SeqTrainingArguments, for Seq2SeqTrainer"):
        TrainingArguments(tmp_path, predict_with_generate=True)
    with pytest.raises(ConfigurationError, match="has no method generate"):
        Seq2SeqTrainer(nn.Linear(1, 1), Seq2SeqTrainingArguments(tmp_path, predict_with_generate=True))


def test_labels_are_padded_by_themselves(tokenizer: Any, model: Any) -> None:
    """As long as the inputs by chance, and on the tokenizer's side; the decoder reads them moved right."""
    rows = [{"input_ids": [5, 6, 7], "labels": [8, 9, 1]}, {"input_ids": [5], "labels": [1]}]
    batch = DataCollatorForSeq2Seq(tokenizer, model)(rows)
    assert batch["labels"].tolist() == [[8, 9, 1], [1, -100, -100]]
    assert batch["input_ids"].tolist() == [[5, 6, 7], [5, 0, 0]]
    assert batch["decoder_input_ids"].tolist() == [[0, 8, 9], [0, 1, 0]]
    tokenizer.padding_side = "left"
    batch = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=4, label_pad_token_id=-1)(rows)
    assert batch["labels"].tolist() == [[-1, 8, 9, 1], [-1, -1, -1, 1]] and "decoder_input_ids" not in batch
    fixed = DataCollatorForSeq2Seq(tokenizer, padding="max_length", max_length=5)(rows)
    assert fixed["labels"].shape == fixed["input_ids"].shape == (2, 5)
    assert "labels" not in DataCollatorForSeq2Seq(tokenizer)([{"input_ids": [5]}])
