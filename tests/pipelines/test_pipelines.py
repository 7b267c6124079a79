"""Pipelines: the peer's answers in the peer's form, batches that change nothing, streams, and what is refused."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from byte_tokenizer import make_byte_tokenizer
from PIL import Image
from pipeline_cases import LONG, MASKED, TEXTS, cases, plain

import maquette
from maquette import (
    AutoConfig,
    AutoModelForSequenceClassification,
    CLIPConfig,
    CLIPImageProcessor,
    DistilBertConfig,
    DistilBertTokenizer,
    DistilBertTokenizerFast,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ResNetConfig,
    SequenceClassifierOutput,
    SiglipConfig,
    SiglipImageProcessor,
    ViTConfig,
    ViTImageProcessor,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    pipeline,
)
from maquette.errors import InputError, UnknownFieldError, UnknownNameError, UntrustedCodeError
from maquette.pipelines import sounds as sound_pipelines
from maquette.pipelines.tasks import TASKS, task_class, task_of
from maquette.registry import built_in_cards
from maquette.testing import tiny_config

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "dog", "sat", "on", "the", "mat", "##s", "##ing"]
WORDS += [*".,!", "this", "example", "is"]
LABELS = {0: "contradiction", 1: "B-X", 2: "I-X", 3: "entailment"}
SPEECH = {token: index for index, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFG"])}


def save(folder: Path, name: str, class_name: str, config: Any, *parts: Any) -> None:
    torch.manual_seed(7)
    model = getattr(maquette, class_name)(config)
    with torch.no_grad():  # so that no two scores are almost alike
        for parameter in model.parameters():
            parameter.mul_(1.5) if parameter.ndim > 1 else parameter.add_(0.1 * torch.randn(parameter.shape))
    for thing in (model, *parts):
        thing.save_pretrained(folder / name)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models for every task, with what prepares their data, and data."""
    folder = tmp_path_factory.mktemp("pipelines")
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = DistilBertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_max_length=24)
    sizes: Any = {"vocab_size": len(WORDS), "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    sizes |= {"max_position_embeddings": 64, "initializer_range": 0.4}
    many = {"id2label": LABELS}
    single = {"num_labels": 1}
    for name, kind, more in (
        ("classes", "ForSequenceClassification", many),
        ("regression", "ForSequenceClassification", single | {"problem_type": "regression"}),
        ("several", "ForSequenceClassification", many | {"problem_type": "multi_label_classification"}),
        ("one", "ForSequenceClassification", single),
        ("tokens", "ForTokenClassification", {"id2label": {0: "O", 1: "B-X", 2: "I-X", 3: "Y"}}),
        ("masked", "ForMaskedLM", {}),
        ("base", "Model", {}),
        ("answers", "ForQuestionAnswering", {}),
    ):
        save(folder, name, f"DistilBert{kind}", DistilBertConfig(**sizes, **more), tokenizer)
    transformer: Any = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    vit = ViTConfig(**transformer, image_size=32, patch_size=16, id2label=LABELS, initializer_range=0.4)
    pixels = ViTImageProcessor(size={"height": 32, "width": 32})
    save(folder, "vit", "ViTForImageClassification", vit, pixels)
    save(folder, "vit-base", "ViTModel", vit, pixels)
    towers = {"intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_factor": 3.0}
    read = {**towers, "vocab_size": len(WORDS), "hidden_size": 16, "max_position_embeddings": 24, "eos_token_id": 3}
    seen = {**towers, "hidden_size": 20, "image_size": 32, "patch_size": 16}
    clip = CLIPConfig(text_config=read, vision_config=seen, projection_dim=12)
    save(folder, "clip", "CLIPModel", clip, tokenizer, CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32))
    for one in (read, seen):
        del one["initializer_factor"]
    pairs = SiglipConfig(text_config={**read, "max_position_embeddings": 64, "hidden_size": 20}, vision_config=seen)
    whole = DistilBertTokenizerFast(vocab_file=str(folder / "vocab.txt"), model_input_names=["input_ids"])
    save(folder, "siglip", "SiglipModel", pairs, whole, SiglipImageProcessor(size=32))
    resnet = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", id2label=LABELS)
    save(folder, "resnet", "ResNetForImageClassification", resnet, pixels)
    speech = Wav2Vec2Config(
        **transformer,
        vocab_size=len(SPEECH),
        id2label=LABELS,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_dim=(8, 8),
        conv_stride=(5, 2),
        conv_kernel=(10, 3),
        num_conv_pos_embeddings=6,
        num_conv_pos_embedding_groups=2,
        classifier_proj_size=8,
        initializer_range=0.4,
    )
    hearing = Wav2Vec2FeatureExtractor(return_attention_mask=True)
    save(folder, "speech", "Wav2Vec2ForCTC", speech, hearing, Wav2Vec2CTCTokenizer(vocab=SPEECH))
    save(folder, "sounds", "Wav2Vec2ForSequenceClassification", speech, hearing)
    template = (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}{{ documents | tojson if documents }}"
    )
    letters = make_byte_tokenizer(chat_template=template)
    decoder = LlamaConfig(
        vocab_size=len(letters),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=200,
        initializer_range=0.3,
        bos_token_id=letters.bos_token_id,
        eos_token_id=letters.eos_token_id,
    )
    save(folder, "decoder", "LlamaForCausalLM", decoder, letters)
    random = np.random.default_rng(3)
    Image.new("RGB", (32, 32), (200, 30, 40)).save(folder / "red.png")
    Image.fromarray(random.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / "noise.png")
    for name, length in (("long", 5000), ("short", 1234)):
        np.save(folder / f"{name}.npy", (random.standard_normal(length) * 0.1).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def peer(folder: Path, run_peer: Callable[..., str]) -> dict[str, Any]:
    """What the peer's pipelines answer from our folders; it runs once."""
    run_peer(Path(__file__).parent / "peer_pipelines.py", folder)
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def compare(ours: Any, theirs: Any, place: str = "") -> None:
    """Compare answers: the same form, the same words, numbers within float32's error of two implementations."""
    if isinstance(theirs, list):
        assert isinstance(ours, list), place
        assert len(ours) == len(theirs), (place, ours, theirs)
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            compare(*pair, f"{place}[{index}]")
    elif isinstance(theirs, dict):
        assert {*ours} == {*theirs}, place
        for name, value in theirs.items():
            compare(ours[name], value, f"{place}.{name}")
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=2e-5, rel=1e-4), place
    else:
        assert ours == theirs, place


def test_answers_are_the_peers(folder: Path, peer: dict[str, Any]) -> None:
    assert set(peer) == set(cases(folder))
    for name, (task, model, options, inputs, call) in cases(folder).items():
        answer = pipeline(task, model=folder / model, device=-1, **options)(inputs, **call)
        json.dumps(answer)  # plain Python, every number of it
        compare(plain(answer), peer[name], name)


# Batches and streams


@pytest.mark.parametrize(
    ("task", "model"),
    [
        ("text-classification", "classes"),
        ("token-classification", "tokens"),
        ("fill-mask", "masked"),
        ("feature-extraction", "base"),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_a_batch_answers_as_single_texts_do(folder: Path, task: str, model: str, size: int) -> None:
    pipe = pipeline(task, model=folder / model)
    texts = [f"{text} [MASK]" for text in TEXTS * 3]
    single = [pipe(text) for text in texts]
    single = [one[0] for one in single] if task == "text-classification" else single
    compare(plain(pipe(texts, batch_size=size)), plain(single))
    compare(plain(list(pipe(iter(texts), batch_size=size))), plain(single))


def test_a_tokenizer_that_pads_on_the_left_changes_no_answer(folder: Path) -> None:
    tokenizer = DistilBertTokenizerFast(vocab_file=str(folder / "vocab.txt"), padding_side="left")
    pipe = pipeline("fill-mask", model=folder / "masked", tokenizer=tokenizer)
    compare(pipe(MASKED, batch_size=3), [pipe(text) for text in MASKED])


def test_sounds_of_several_lengths_answer_as_single_ones(folder: Path) -> None:
    clips = [np.load(folder / f"{name}.npy") for name in ("long", "short", "long")]
    pipe = pipeline("automatic-speech-recognition", model=folder / "speech")
    options: Any = {"return_timestamps": "char"}
    assert pipe(clips, batch_size=3, **options) == [pipe(clip, **options) for clip in clips]
    pieces = {**options, "chunk_length_s": 0.05}
    assert pipe(clips, batch_size=4, **pieces) == [pipe(clip, **pieces) for clip in clips]


def test_rows_of_several_lengths_go_together_only_where_padding_is_marked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = pipeline("audio-classification", model=folder / "sounds")
    seen: list[int] = []
    forward = pipe.model.forward
    monkeypatch.setattr(
        pipe.model, "forward", lambda **inputs: seen.append(len(inputs["input_values"])) or forward(**inputs)
    )
    clips = [np.load(folder / f"{name}.npy") for name in ("long", "short", "long", "short")]
    pipe.__dict__["_arguments"] = ({"input_values", "attention_mask"}, False)
    pipe(clips, batch_size=4)
    pipe(clips)
    pipe.feature_extractor.return_attention_mask = False
    pipe(clips, batch_size=4)
    assert seen == [4, 2, 2, 2, 2]


def test_a_stream_reads_no_further_than_it_must(folder: Path) -> None:
    read: list[str] = []

    def texts() -> Iterator[str]:
        for text in TEXTS:
            read.append(text)
            yield text

    pipe = pipeline("text-classification", model=folder / "classes")
    answers = pipe(texts())
    assert read == []
    first = next(answers)
    assert read == TEXTS[:1]
    assert [first, *answers] == pipe(TEXTS, batch_size=1)


def test_a_data_set_is_answered_in_order(folder: Path) -> None:
    class Data:
        def __len__(self) -> int:
            return len(TEXTS)

        def __getitem__(self, index: int) -> str:
            return TEXTS[index]

    pipe = pipeline("text-classification", model=folder / "classes")
    compare(list(pipe(Data(), batch_size=2)), pipe(TEXTS))


# Questions


def brute_force(pipe: Any, question: str, context: str, most: int) -> dict[str, Any]:
    """Try every span of a text that fits the model whole."""
    encoded = pipe.tokenizer(question, context, return_offsets_mapping=True)
    with torch.no_grad():
        out = pipe.model(torch.tensor([encoded["input_ids"]]))
    inside = [part == 1 for part in encoded.sequence_ids(0)]
    rows = []
    for logits in (out.start_logits[0], out.end_logits[0]):
        masked = [float(x) if inside[i] or i == 0 else -10000.0 for i, x in enumerate(logits)]
        rows.append(torch.tensor(masked, dtype=torch.float64).softmax(0))
    best = max(
        (float(rows[0][i] * rows[1][j]), i, j)
        for i in range(1, len(inside))
        for j in range(i, min(i + most, len(inside)))
        if inside[i] and inside[j]
    )
    words = encoded.word_ids(0)
    start = min(encoded["offset_mapping"][k][0] for k in range(len(words)) if inside[k] and words[k] == words[best[1]])
    end = max(encoded["offset_mapping"][k][1] for k in range(len(words)) if inside[k] and words[k] == words[best[2]])
    return {"score": best[0], "start": start, "end": end, "answer": context[start:end]}


@pytest.mark.parametrize("most", [1, 3, 15])
def test_an_answer_is_the_best_of_all_spans(folder: Path, most: int) -> None:
    pipe = pipeline("question-answering", model=folder / "answers")
    for question, context in (("a cat?", "the dogs sat on mats."), ("dogs", "cats sat, a mat! on the dogs")):
        compare(
            pipe(question=question, context=context, max_answer_len=most), brute_force(pipe, question, context, most)
        )


def test_a_long_text_is_read_in_windows(folder: Path) -> None:
    pipe = pipeline("question-answering", model=folder / "answers")
    answers = pipe(question="a cat?", context=LONG, max_seq_len=16, doc_stride=4, top_k=5)
    assert len(answers) == 5
    assert all(LONG[one["start"] : one["end"]] == one["answer"] for one in answers)
    assert [one["score"] for one in answers] == sorted((one["score"] for one in answers), reverse=True)
    windows = pipe.tokenizer(
        ["a cat?"],
        [LONG],
        truncation="only_second",
        max_length=16,
        stride=4,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    scores = []
    for ids, places, index in zip(windows["input_ids"], windows["offset_mapping"], range(99), strict=False):
        inside = torch.tensor([part == 1 for part in windows.sequence_ids(index)])
        with torch.no_grad():
            out = pipe.model(torch.tensor([ids]))
        allowed = inside | (torch.tensor(ids) == pipe.tokenizer.cls_token_id)
        begins, ends = (
            torch.where(allowed, logits[0], torch.tensor(-10000.0)).softmax(0)
            for logits in (out.start_logits, out.end_logits)
        )
        products = torch.triu(torch.outer(begins * inside, ends * inside))
        scores.append(float(torch.tril(products, 14).max()))
        assert len(places) == len(ids)
    assert len(scores) > 4
    assert answers[0]["score"] == pytest.approx(max(scores), rel=1e-4)


def test_questions_take_every_form(folder: Path) -> None:
    pipe = pipeline("question-answering", model=folder / "answers")
    pair = {"question": "a cat?", "context": "the dogs sat on mats."}
    assert pipe(pair) == pipe(**pair) == pipe([pair])[0] == pipe(question=["a cat?"], context=pair["context"])[0]
    nothing = pipe(pair, handle_impossible_answer=True, top_k=99)
    assert {"score", "start", "end", "answer"} == set(nothing[0])
    assert "" in {one["answer"] for one in nothing}
    for wrong in ("a cat?", {"question": "x"}, {"question": "", "context": "x"}):
        with pytest.raises(InputError):
            pipe(wrong)


# Continuations


@pytest.fixture(scope="module")
def writer(folder: Path) -> Any:
    return pipeline(model=folder / "decoder")


def test_prompts_are_one_call_and_answer_as_single_ones_do(writer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    generate = type(writer.model).generate

    def count(self: Any, prompts: Any, **settings: Any) -> Any:
        calls.append(settings)
        return generate(self, prompts, **settings)

    monkeypatch.setattr(type(writer.model), "generate", count)
    prompts = [f"{'so ' * n}on" for n in range(6)]
    options: Any = {"do_sample": False, "max_new_tokens": 40, "return_tensors": True}
    together = writer(prompts, batch_size=2, **options)
    assert [one["max_rows"] for one in calls] == [2]
    assert together == [writer(prompt, **options) for prompt in prompts]
    assert list(writer(iter(prompts), **options)) == together
    assert len({len(row[0]["generated_token_ids"]) for row in together}) > 1


def test_what_nobody_says_is_sampled_within_the_models_positions(writer: Any) -> None:
    first, again, other = (
        writer("Hello", seed=seed, return_tensors=True)[0]["generated_token_ids"] for seed in (1, 1, 2)
    )
    assert first == again != other
    assert max(len(first), len(other)) <= writer.model.config.max_position_embeddings
    rows = writer("Hello", num_return_sequences=3, max_new_tokens=9, seed=5, return_full_text=False)
    assert len({row["generated_text"] for row in rows}) == 3


def test_a_text_gets_one_begin_token(folder: Path) -> None:
    class Beginning(PreTrainedTokenizerFast):
        def __call__(self, text: Any, *args: Any, add_special_tokens: bool = True, **options: Any) -> Any:
            begun = f"<s>{text}" if add_special_tokens else text
            return super().__call__(begun, *args, add_special_tokens=False, **options)

    model = maquette.AutoModelForCausalLM.from_pretrained(folder / "decoder")
    plain = make_byte_tokenizer()
    tokenizer = Beginning(tokenizer_object=plain.backend_tokenizer, bos_token="<s>", eos_token="</s>")
    pipe = pipeline(model=model, tokenizer=tokenizer)
    options: Any = {"max_new_tokens": 1, "return_tensors": True, "do_sample": False}
    begin = tokenizer.bos_token_id
    for text in ("Hi", "<s>Hi"):
        assert pipe(text, **options)[0]["generated_token_ids"][:-1] == [begin, *plain("Hi")["input_ids"]]
    assert pipe("<s>Hi", add_special_tokens=True, **options)[0]["generated_token_ids"][:2] == [begin] * 2
    assert pipe("", **options)[0]["generated_token_ids"][0] == begin


def test_texts_stop_at_strings_and_make_room(writer: Any) -> None:
    options: Any = {"do_sample": False, "max_new_tokens": 12, "return_full_text": False}
    whole = [row[0]["generated_text"] for row in writer(["Hello, you", "a"], **options)]
    letter = next(letter for letter in whole[0][2:] if letter.isascii() and letter.isprintable())
    stopped = writer(["Hello, you", "a"], stop_sequence=letter, **options)
    for text, row in zip(whole, stopped, strict=True):
        assert row[0]["generated_text"] == text[: text.index(letter) + 1 if letter in text else None]
    writer.tokenizer.model_max_length = 20
    try:
        cut = writer(
            "Well, hello, you", handle_long_generation="hole", return_tensors=True, do_sample=False, max_new_tokens=12
        )
    finally:
        writer.tokenizer.model_max_length = int(1e30)
    assert cut[0]["generated_token_ids"][:8] == writer.tokenizer("llo, you")["input_ids"]


def test_what_cannot_be_continued_is_one_clear_error(writer: Any) -> None:
    with pytest.raises(UnknownFieldError, match="Did you mean 'max_new_tokens'"):
        writer("a", max_new_token=3)
    with pytest.raises(InputError, match="no message"):
        writer([{"content": "Hi"}])
    with pytest.raises(InputError, match="no prompt"):
        writer([3])
    with pytest.raises(InputError, match="exclude each other"):
        writer("a", return_text=True, return_tensors=True)
    with pytest.raises(InputError, match="hole"):
        writer("a", handle_long_generation="cut")


# Models and parts


@pytest.mark.parametrize(
    ("model", "task"),
    [
        ("classes", "text-classification"),
        ("tokens", "token-classification"),
        ("masked", "fill-mask"),
        ("answers", "question-answering"),
        ("base", "feature-extraction"),
        ("decoder", "text-generation"),
        ("vit", "image-classification"),
        ("vit-base", "image-feature-extraction"),
        ("clip", "zero-shot-image-classification"),
        ("siglip", "zero-shot-image-classification"),
        ("resnet", "image-classification"),
        ("sounds", "audio-classification"),
        ("speech", "automatic-speech-recognition"),
    ],
)
def test_the_model_says_the_task(folder: Path, model: str, task: str) -> None:
    found = pipeline(model=folder / model)
    assert found.task == task
    assert pipeline(model=found.model).task == task  # an object finds its parts where it came from


def test_every_built_in_head_of_a_task_says_the_task() -> None:
    """By its name in a configuration alone: nothing is built."""
    seen = set()
    for card in built_in_cards().values():
        for auto_class, reference in card.models_in("torch").items():
            served = [task for task in TASKS if auto_class in task_class(task).auto_classes]
            if not served:
                continue
            config = tiny_config(card)
            config.architectures = [reference.partition(":")[2]]
            found = task_of(config)
            bare = found.endswith("feature-extraction") or reference in list(card.models.values())[1:]
            assert found in served or (auto_class == "AutoModel" and bare), reference
            seen.add(found)
    assert seen >= {*TASKS} - {"zero-shot-classification"}


class WordsConfig(PretrainedConfig):
    model_type = "pipeline-words"
    vocab_size: int = len(WORDS)
    dim: int = 8


class WordsForSequenceClassification(PreTrainedModel):
    config_class = WordsConfig

    def __init__(self, config: WordsConfig) -> None:
        super().__init__(config)
        self.embed = torch.nn.Embedding(config.vocab_size, config.dim)
        self.score = torch.nn.Linear(config.dim, config.num_labels)

    def forward(self, input_ids: torch.Tensor) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.score(self.embed(input_ids).mean(1)))


def test_a_model_of_ones_own_is_served(folder: Path, tmp_path: Path) -> None:
    """It takes no mask, so that rows of different lengths never go together."""
    AutoConfig.register("pipeline-words", WordsConfig, exist_ok=True)
    AutoModelForSequenceClassification.register(WordsConfig, WordsForSequenceClassification, exist_ok=True)
    model = WordsForSequenceClassification(WordsConfig(id2label=LABELS))
    model.save_pretrained(tmp_path)
    tokenizer = DistilBertTokenizer(vocab_file=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(tmp_path)
    found = pipeline(model=tmp_path)
    assert found.task == "text-classification"
    answers = found(TEXTS, batch_size=4, top_k=None)
    for text, answer in zip(TEXTS, answers, strict=True):
        scores = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0].softmax(0).tolist()
        compare({one["label"]: one["score"] for one in answer}, {LABELS[i]: score for i, score in enumerate(scores)})


CODE = """
import torch
from maquette import PretrainedConfig, PreTrainedModel, SequenceClassifierOutput


class OwnConfig(PretrainedConfig):
    model_type = "pipeline-own"
    dim: int = 8


class Own(PreTrainedModel):
    config_class = OwnConfig

    def __init__(self, config):
        super().__init__(config)
        self.embed = torch.nn.Embedding(30, config.dim)
        self.score = torch.nn.Linear(config.dim, config.num_labels)

    def forward(self, input_ids, **ignored):
        return SequenceClassifierOutput(logits=self.score(self.embed(input_ids).sum(1)))
"""
SAVE = """
import sys; sys.path.insert(0, "code")
from own import Own, OwnConfig
from maquette import DistilBertTokenizerFast
OwnConfig.register_for_auto_class()
Own.register_for_auto_class("AutoModelForSequenceClassification")
Own(OwnConfig(id2label={0: "calm", 1: "wild"})).save_pretrained("saved")
DistilBertTokenizerFast(vocab_file="vocab.txt").save_pretrained("saved")
"""


def test_code_that_comes_with_a_model_needs_trust(folder: Path, tmp_path: Path, run_fresh: Any) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own.py").write_text(CODE)
    (tmp_path / "vocab.txt").write_text((folder / "vocab.txt").read_text())
    run_fresh(SAVE)
    with pytest.raises(UntrustedCodeError):
        pipeline(model=tmp_path / "saved")
    found = pipeline(model=tmp_path / "saved", trust_remote_code=True)
    assert found.task == "text-classification"
    assert {one["label"] for one in found("a cat", top_k=None)} == {"calm", "wild"}
    assert found(TEXTS, batch_size=4) == [found(text)[0] for text in TEXTS]


def test_parts_are_objects_names_or_a_processors(folder: Path, tmp_path: Path) -> None:
    model = maquette.AutoModelForCTC.from_pretrained(folder / "speech")
    tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(folder / "speech")
    processor = maquette.Wav2Vec2Processor(Wav2Vec2FeatureExtractor.from_pretrained(folder / "speech"), tokenizer)
    clip = np.load(folder / "long.npy")
    expected = pipeline(model=folder / "speech")(clip)
    assert pipeline(model=model, processor=processor)(clip) == expected
    assert pipeline(model=model, tokenizer=tokenizer, feature_extractor=str(folder / "speech"))(clip) == expected
    made = pipeline(model=folder / "speech")
    made.save_pretrained(tmp_path / "again")
    assert pipeline(model=tmp_path / "again")(clip) == expected
    fresh = maquette.DistilBertForMaskedLM(DistilBertConfig(vocab_size=20, dim=16, n_layers=1, n_heads=2, hidden_dim=8))
    with pytest.raises(InputError, match="needs tokenizer="):
        pipeline(model=fresh)


def test_another_type_of_numbers(folder: Path) -> None:
    pipe = pipeline(model=folder / "vit", dtype=torch.bfloat16)
    assert pipe.dtype == torch.bfloat16
    assert len(pipe(str(folder / "red.png"))) == 4
    assert pipe.device == torch.device("cpu")


def test_sounds_and_images_come_from_addresses_bytes_and_other_rates(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile, soxr = pytest.importorskip("soundfile"), pytest.importorskip("soxr")
    clip = np.load(folder / "long.npy")
    soundfile.write(folder / "clip.wav", clip, 16000, subtype="FLOAT")
    pipe = pipeline(model=folder / "speech")
    content = (folder / "clip.wav").read_bytes()
    monkeypatch.setattr(sound_pipelines, "fetch", lambda url, *rest: content)
    expected = pipe(clip)
    forms = [str(folder / "clip.wav"), folder / "clip.wav", content, "https://example.org/clip.wav"]
    forms += [torch.from_numpy(clip), np.stack([clip, clip])]
    assert [pipe(form) for form in forms] == [expected] * 6
    slow = soxr.resample(clip, 16000, 8000, quality="HQ")
    again = soxr.resample(slow, 8000, 16000, quality="HQ")
    assert pipe({"array": slow, "sampling_rate": 8000}) == pipe(again)
    images = pipeline(model=folder / "vit")
    shown = Image.open(folder / "red.png")
    compare(
        [images(shown), images(np.asarray(shown)), images(folder / "red.png")], [images(str(folder / "red.png"))] * 3
    )


# What is refused


def test_what_cannot_be_is_one_clear_error(folder: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'fill-mask'"):
        pipeline("fill-masks", model=folder / "masked")
    with pytest.raises(InputError, match="needs a model"):
        pipeline("fill-mask")
    with pytest.raises(UnknownFieldError, match="Did you mean 'top_k'"):
        pipeline("fill-mask", model=folder / "masked", topk=3)
    with pytest.raises(UnknownNameError, match="no class for AutoModelForCTC"):
        pipeline("automatic-speech-recognition", model=folder / "masked")
    masked = pipeline(model=folder / "masked")
    with pytest.raises(InputError, match=r"has no \[MASK\]"):
        masked("a cat")
    with pytest.raises(InputError, match="batch_size"):
        masked(MASKED, batch_size=0)
    with pytest.raises(InputError, match="cannot take 3"):
        masked(3)
    classes = pipeline(model=folder / "classes")
    with pytest.raises(InputError, match="is no text"):
        classes([3])
    with pytest.raises(UnknownNameError, match="function_to_apply"):
        classes("a", function_to_apply="softmaxx")
    with pytest.raises(InputError, match="top_k"):
        classes("a", top_k=0)
    tokens = pipeline(model=folder / "tokens", use_fast=False)
    with pytest.raises(InputError, match="fast tokenizer"):
        tokens("a cat", aggregation_strategy="first")
    with pytest.raises(InputError, match="Did you mean 'average'"):
        tokens("a cat", aggregation_strategy="averag")
    speech = pipeline(model=folder / "speech")
    with pytest.raises(InputError, match="would not move on"):
        speech(np.zeros(5000, np.float32), chunk_length_s=0.1, stride_length_s=0.06)
    with pytest.raises(InputError, match="return_timestamps"):
        speech(np.zeros(500, np.float32), return_timestamps=True)
    labels = pipeline("zero-shot-classification", model=folder / "several")
    with pytest.raises(InputError, match="at least one label"):
        labels("a cat", [])
    with pytest.raises(InputError, match="hypothesis_template"):
        labels("a cat", ["dog"], hypothesis_template="no place")
