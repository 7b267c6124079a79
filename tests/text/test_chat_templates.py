"""Conversations as texts and ids, like the peer's; templates in files; and templates that misbehave."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chat_samples as samples
import numpy as np
import pytest
from byte_tokenizer import make_byte_tokenizer as make

from maquette import AutoTokenizer, DistilBertTokenizer, PreTrainedTokenizerFast, get_json_schema
from maquette.errors import FileFormatError, InputError, MissingPackageError, UnknownNameError, UnsafePathError
from maquette.text import chat_rendering, template_sandbox

TALK = samples.CONVERSATIONS["plain"]
NAMED = {"default": samples.TEMPLATES["chatml"], "tool_use": samples.TEMPLATES["qwen3"], "rag": "{{ documents }}"}


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make(chat_template=samples.TEMPLATES["chatml"])


@pytest.fixture(scope="module")
def peer(tmp_path_factory: pytest.TempPathFactory, run_peer: Callable[..., str]) -> tuple[Path, dict[str, Any]]:
    """A folder through which both libraries went, and what the peer gave; the peer runs once."""
    folder = tmp_path_factory.mktemp("chat")
    make(chat_template=samples.TEMPLATES["chatml"]).save_pretrained(folder / "ours")
    make(chat_template=NAMED).save_pretrained(folder / "named")
    run_peer(Path(__file__).parent / "peer_chat.py", folder)
    return folder, json.loads((folder / "results.json").read_text(encoding="utf-8"))


# The peer


def test_every_style_of_template_gives_the_peers_text_and_ids(tokenizer: Any, peer: Any) -> None:
    differing, refused = [], 0
    for name, case in samples.cases().items():
        options = dict(case["options"])
        if options.get("tools"):
            options["tools"] = samples.TOOLS
        options["chat_template"] = samples.TEMPLATES[case["template"]]
        talk = samples.CONVERSATIONS[case["talk"]]
        theirs = peer[1]["cases"][name]
        if "error" in theirs:
            refused += 1
            with pytest.raises(InputError):
                tokenizer.apply_chat_template(talk, **options)
            continue
        text = tokenizer.apply_chat_template(talk, tokenize=False, **options)
        if text != theirs["text"] or tokenizer.apply_chat_template(talk, **options)["input_ids"] != theirs["ids"]:
            differing.append((name, text, theirs["text"]))
    assert not differing
    assert 30 < refused < len(peer[1]["cases"]) / 2


@pytest.mark.parametrize("template", ["chatml", "llama2"])
def test_masks_of_the_assistants_tokens_are_the_peers(tokenizer: Any, peer: Any, template: str) -> None:
    form = {"chat_template": samples.TEMPLATES[template], "return_assistant_tokens_mask": True}
    talks = [samples.CONVERSATIONS[talk] for talk in ("plain", "spaces")]
    single, batch, cut = peer[1]["masks"][template]
    assert dict(tokenizer.apply_chat_template(talks[0], **form)) == single
    assert dict(tokenizer.apply_chat_template(talks, **form)) == batch
    assert dict(tokenizer.apply_chat_template(talks, truncation=True, max_length=40, **form)) == cut
    assert sum(single["assistant_masks"]) > 10


def test_one_messages_ids_are_the_peers(tokenizer: Any, peer: Any) -> None:
    history = samples.CONVERSATIONS["system"]
    assert tokenizer.encode_message_with_chat_template(history[-1], history[:-1]) == peer[1]["message"]


def test_functions_have_the_peers_schemas(peer: Any) -> None:
    assert {name: get_json_schema(function) for name, function in samples.GOOD.items()} == peer[1]["schemas"]
    assert all("error" in theirs for theirs in peer[1]["refused"].values())
    for function in samples.BAD.values():
        with pytest.raises(InputError):
            get_json_schema(function)


def test_templates_go_both_ways(peer: Any) -> None:
    folder, found = peer
    assert found["read"] == {"ours": samples.TEMPLATES["chatml"], "named": NAMED}
    for name in ("theirs", "theirs-old"):
        assert AutoTokenizer.from_pretrained(folder / name).chat_template == samples.TEMPLATES["chatml"]
    for name in ("theirs-named", "theirs-named-old"):
        named = AutoTokenizer.from_pretrained(folder / name)
        assert named.chat_template == NAMED
        assert found["used"] == [named.get_chat_template(), named.get_chat_template(tools=[]), NAMED["rag"]]
    assert not (folder / "theirs-old" / "chat_template.jinja").exists()


def test_special_tokens_that_a_user_typed_are_letters_as_the_peers(tokenizer: Any, peer: Any) -> None:
    calls: list[tuple[Any, dict[str, Any]]] = [
        (samples.FORGED, {}),
        ([samples.FORGED, TALK], {"padding": True}),
        ([samples.FORGED, TALK], {"truncation": True, "max_length": 20}),
        (samples.FORGED, {"chat_template": samples.TEMPLATES["qwen3"], "tools": [{"about": "a </s> b"}]}),
    ]
    for (talk, options), theirs in zip(calls, peer[1]["clean"], strict=True):
        assert dict(tokenizer.apply_chat_template(talk, sanitize_control_tokens=True, **options)) == theirs
    for special in ("<|im_start|>", "</s>", "<pad>"):
        index = tokenizer.convert_tokens_to_ids(special)
        clean = tokenizer.apply_chat_template(samples.FORGED, sanitize_control_tokens=True, return_dict=False)
        as_ever = tokenizer.apply_chat_template(samples.FORGED, return_dict=False)
        own = sum(row.count(special) for row in [message["content"] for message in samples.FORGED])
        assert as_ever.count(index) - clean.count(index) == own
        assert tokenizer.decode(clean) == tokenizer.decode(as_ever)


def test_a_python_tokenizer_spells_them_too(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[PAD] [UNK] [CLS] [SEP] [MASK] [ ] sep hi".replace(" ", "\n"))
    tokenizer = DistilBertTokenizer(vocab_file=str(tmp_path / "vocab.txt"))
    options: Any = {"chat_template": "{{ sep_token }}{{ messages[0].content }}{{ sep_token }}", "return_dict": False}
    talk = [{"role": "user", "content": "hi [SEP] hi"}]
    assert tokenizer.apply_chat_template(talk, **options) == [3, 8, 3, 8, 3]
    assert tokenizer.apply_chat_template(talk, sanitize_control_tokens=True, **options) == [3, 8, 5, 7, 6, 8, 3]


def test_what_hides_special_tokens_is_refused(tokenizer: Any) -> None:
    template = "{{ messages | tojson(ensure_ascii=True) }}"
    with pytest.raises(InputError, match="JSON in ASCII"):
        tokenizer.apply_chat_template(samples.FORGED, chat_template=template, sanitize_control_tokens=True)
    forged = [{"role": "user", "content": "\U000f0000</s>\U000f0001 \U000f0001"}]
    clean = tokenizer.apply_chat_template(forged, sanitize_control_tokens=True, return_dict=False)
    assert clean.count(tokenizer.eos_token_id) == 0


# Calls


def test_a_batch_has_a_row_for_each_conversation(tokenizer: Any) -> None:
    talks = [TALK, samples.CONVERSATIONS["system"]]
    batch = tokenizer.apply_chat_template(talks, padding=True, return_tensors="np", return_assistant_tokens_mask=True)
    assert {name: rows.shape[0] for name, rows in batch.items()} == dict.fromkeys(batch, 2)
    for row, talk in enumerate(talks):
        ids = tokenizer.apply_chat_template(talk)["input_ids"]
        assert batch["input_ids"][row, : len(ids)].tolist() == ids
        written = np.array(ids)[batch["assistant_masks"][row, : len(ids)] == 1]
        answers = [message["content"] + "<|im_end|>\n" for message in talk if message["role"] == "assistant"]
        assert tokenizer.decode(written) == "".join(answers)
    assert batch["assistant_masks"][0].sum() == len(tokenizer.encode(" I'm fine — thanks. ")) + 2


def test_the_template_alone_writes_special_tokens() -> None:
    tokenizer = make(chat_template="{{ bos_token }}{{ messages[0].content }}")
    assert tokenizer.apply_chat_template(TALK, return_dict=False).count(tokenizer.bos_token_id) == 1


def test_messages_are_left_as_they_were(tokenizer: Any) -> None:
    talk = [{"role": "user", "content": [{"type": "text", "text": "Hi "}], "extra": None}]
    tokenizer.apply_chat_template(
        talk, chat_template="{{ messages[0].content[0].text }}", continue_final_message=True, tokenize=False
    )
    assert talk == [{"role": "user", "content": [{"type": "text", "text": "Hi "}], "extra": None}]


def test_a_mask_needs_the_mark_and_a_fast_tokenizer(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="generation"):
        tokenizer.apply_chat_template(TALK, chat_template="{{ messages }}", return_assistant_tokens_mask=True)
    with pytest.raises(InputError, match="return_dict=True"):
        tokenizer.apply_chat_template(TALK, return_assistant_tokens_mask=True, tokenize=False)


@pytest.mark.parametrize(
    ("talk", "options", "said"),
    [
        ("Hi", {}, "list of messages"),
        ([], {}, "empty"),
        (["Hi"], {}, "message 0 is 'Hi'"),
        ([TALK, "Hi"], {}, "Conversation 1"),
        (TALK, {"tools": samples.weather}, "list of JSON schemas"),
        (TALK, {"tools": [3]}, r"tools\[0\]"),
        (TALK, {"documents": ["x"]}, r"documents\[0\]"),
        (TALK, {"chat_template": "chatlm"}, "nor the name of one"),
        (TALK, {"continue_final_message": True, "add_generation_prompt": True}, "exclude"),
        (TALK, {"continue_final_message": "thoughts"}, "no 'thoughts'"),
        (TALK, {"sanitize_control_tokens": True, "tokenize": False}, "needs tokenize=True"),
        ([{"role": "user", "content": [{"type": "image"}]}], {"continue_final_message": True}, "no text"),
    ],
)
def test_what_is_no_conversation_is_one_error(tokenizer: Any, talk: Any, options: Any, said: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=said):
        tokenizer.apply_chat_template(talk, **options)


def test_no_template_says_what_to_do() -> None:
    with pytest.raises(InputError, match=r"has no chat template.*tokenizer\.chat_template = "):
        make().apply_chat_template(TALK)
    with pytest.raises(InputError, match="'a', 'b'"):
        make(chat_template={"a": "{{ 1 }}", "b": "{{ 2 }}"}).get_chat_template()
    with pytest.raises(UnknownNameError, match="Did you mean 'tool_use'"):
        make(chat_template=NAMED).get_chat_template("tool_uses")


def test_all_faults_of_a_function_are_told_at_once() -> None:
    def fault(a, *rest: int, b: samples.Shop, c: int):  # type: ignore[no-untyped-def]
        """Do it.

        Args:
            a (int): one
            b: two
        """

    with pytest.raises(InputError) as failure:
        get_json_schema(fault)
    for part in ("a has no type hint", "*rest", "b: the type Shop has no JSON schema", "c has no description"):
        assert part in str(failure.value)


# Files


def test_a_save_takes_the_templates_of_an_earlier_one_away(tmp_path: Path) -> None:
    make(chat_template=NAMED).save_pretrained(tmp_path)
    assert sorted(p.name for p in (tmp_path / "additional_chat_templates").iterdir()) == ["rag.jinja", "tool_use.jinja"]
    make(chat_template={"rag": "{{ 1 }}"}).save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == {"rag": "{{ 1 }}"}
    make().save_pretrained(tmp_path)
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template is None
    assert AutoTokenizer.from_pretrained(tmp_path, chat_template="{{ 2 }}").chat_template == "{{ 2 }}"


def test_a_templates_name_stays_in_its_folder(tmp_path: Path) -> None:
    with pytest.raises(UnsafePathError):
        make(chat_template={"../evil": "{{ 1 }}"}).save_pretrained(tmp_path / "x")
    assert not (tmp_path / "evil.jinja").exists()
    with pytest.raises(FileFormatError, match="chat_template must be a text"):
        make(chat_template=7)


def test_a_new_tokenizer_keeps_the_template(tokenizer: Any) -> None:
    again = tokenizer.train_new_from_iterator(["a b c"], vocab_size=300, show_progress=False)
    assert again.chat_template == tokenizer.chat_template


# Templates that misbehave

DOUBLING = "{% set ns = namespace(x=START) %}{% for i in range(70) %}{% set ns.x = STEP %}{% endfor %}{{ ns.x }}"


def doubling(start: str, step: str) -> str:
    return DOUBLING.replace("START", start).replace("STEP", step)


HUGE = {
    "many": "".join("{% set x" + str(i) + " = 'ab' * 10000000 %}" for i in range(60)),
    "cut": "{{ ('a ' * 10000000).split(' ') | length }}",
    "cut at nothing": "{{ ('a ' * 10000000).split() | length }}",
    "letters": "{{ ('a' * 10000000) | list | length }}",
    "text": doubling("'ab'", "ns.x ~ ns.x"),
    "sum": doubling("'ab'", "ns.x + ns.x"),
    "list": doubling("['ab']", "[ns.x, ns.x]"),
    "mapping": doubling("['ab']", "{'a': ns.x, 'b': ns.x}"),
    "dict": doubling("['ab']", "dict(a=ns.x, b=ns.x)"),
    "namespace": doubling("['ab']", "namespace(a=ns.x, b=ns.x)"),
    "filter": doubling("'ab'", "[ns.x, ns.x] | join"),
    "number": doubling("10", "ns.x * ns.x"),
    "power": "{{ 10 ** 1000000000 }}",
    "times": "{{ ('a' * 10000) * 1000000 }}",
    "items": "{{ ([0] * 1000000000) | length }}",
    "centred": "{{ 'a'.center(1000000000) }}",
    "centred by a filter": "{{ 'a' | center(1000000000) }}",
    "indented": "{{ 'a' | indent(1000000000) }}",
    "batch": "{{ [1] | batch(1000000000, 0) | list }}",
    "json": "{{ [[1]] | tojson(indent=1000000000) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "percent filter": "{{ '%1000000000d' | format(1) }}",
    "braces": "{{ '{:1000000000}'.format(1) }}",
    "braces within": "{{ '{:{w}}'.format(1, w=1000000000) }}",
    "date": "{{ strftime_now('%1000000000Y') }}",
    "replaced": "{{ ('a' * 1000000).replace('', 'b' * 100000) }}",
    "printed": "{% for i in range(90000) %}{% for j in range(90000) %}" + "x" * 9999 + "{% endfor %}{% endfor %}",
    "kept": "{% set x %}{% for i in range(90000) %}" + "x" * 9999 + "{% endfor %}{% endset %}{{ x }}",
}


@pytest.mark.parametrize("name", HUGE)
def test_a_template_makes_nothing_huge(tokenizer: Any, name: str) -> None:
    with pytest.raises(InputError, match=r"makes|formats"):
        tokenizer.apply_chat_template(TALK, chat_template=HUGE[name], tokenize=False)


@pytest.mark.parametrize(
    "template",
    [
        "\n{% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}",
        "\n{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
    ],
)
def test_a_template_does_not_go_on_for_ever(tokenizer: Any, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template_sandbox, "SECONDS", 0.2)
    with pytest.raises(InputError, match=r"runs for more than 0\.2 seconds in line 2"):
        tokenizer.apply_chat_template(TALK, chat_template=template, tokenize=False)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% include '/etc/passwd' %}", "reads another file"),
        ("{% import 'x' as y %}", "reads another file"),
        ("{{ ''.__class__.__mro__ }}", "may not"),
        ("{{ messages.append(1) }}", "may not"),
        ("{{ cycler.__init__.__globals__ }}", "may not"),
        ("{{ namespace(__class__=1) }}", "underscore"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls itself"),
        ("a\nb {% if %}", "not valid Jinja, line 2.*b {% if %}"),
        ("a\n{{ messages[0].contents.x }}", "line 2: 'dict object' has no attribute 'contents'"),
        ("\n\n{{ 1 + 'a' }}", "fails in line 3: TypeError"),
        ("{{ raise_exception('Roles must alternate') }}", "refuses this conversation: Roles must alternate"),
        ("{{ 1 | tojsn }}", "No filter named 'tojsn'"),
        ("\n{{ {'a': 1} | dictsort(by='x') }}", "fails in line 2: "),
    ],
)
def test_what_a_template_may_not_is_told(tokenizer: Any, template: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as failure:
        tokenizer.apply_chat_template(TALK, chat_template=template, tokenize=False)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None or failure.value.__suppress_context__


def test_objects_reach_a_template_as_plain_data(tokenizer: Any, tmp_path: Path) -> None:
    talk = [{"role": "user", "content": np.zeros(3), "where": tmp_path, "n": np.float32(0.5), "yes": np.bool_(False)}]
    template = "{{ messages[0].content }} {{ messages[0].where }} {{ messages[0].n + 1 }} {{ not messages[0].yes }}"
    text = tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False)
    assert text == f"<ndarray> <{type(tmp_path).__name__}> 1.5 True"


def test_without_jinja2_the_extra_is_named(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: "3.1.5")
    chat_rendering._sandbox.cache_clear()
    with pytest.raises(MissingPackageError, match=r"maquette\[chat\].*3\.1\.5"):
        tokenizer.apply_chat_template(TALK)
    monkeypatch.undo()
    assert tokenizer.apply_chat_template(TALK, return_dict=False)
