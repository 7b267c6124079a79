"""What the site has beside the pages: its navigation, which is the index's, and the reference of every public name.

`mkdocs` calls the functions whose names begin with `on_`. The index, `docs/README.md`, alone lists the pages.
"""

import ast
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
STUB = ROOT / "src" / "maquette" / "__init__.pyi"

# Pages of the repository that the site takes along, and what they are called there.
ALONG = {"overview.md": "README.md", "contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}

# The pages of the reference: title, and which modules' names they have. Each family of models has one of its own.
GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "configurations": ("Configurations", ("configuration",)),
    "models": ("Bases, heads and layers", ("modeling",)),
    "outputs": ("Outputs", ("modeling.outputs", "modeling.encoder_decoder_outputs")),
    "autoclasses": ("AutoClasses and cards", ("auto", "registry")),
    "tokenizers": ("Tokenizers", ("text", "tokenizers")),
    "processors": ("Images, sounds, processors", ("images", "audio", "processing", "batch")),
    "generation": ("Generation", ("generation",)),
    "pipelines": ("Pipelines", ("pipelines",)),
    "training": ("Training", ("training",)),
    "errors": ("Errors", ("errors",)),
    "hub": ("The Hub and the version", ("huggingface_hub", "storage")),
}
# Of other packages; they are described there.
FOREIGN = {
    "AddedToken": "A token with its rules (`lstrip`, `single_word`, …): the class of `tokenizers`.",
    "login": "Log in to the Hub: the function of `huggingface_hub`.",
    "notebook_login": "Log in to the Hub from a notebook: the function of `huggingface_hub`.",
    "__version__": "The version, a string.",
}
# Bases whose methods come from mixins that nobody looks up: they are shown with all they have.
WITH_INHERITED = {
    *("PretrainedConfig", "PreTrainedModel", "TFPreTrainedModel", "FlaxPreTrainedModel", "ModelOutput", "Cache"),
    *("PreTrainedTokenizer", "PreTrainedTokenizerFast", "BaseImageProcessor", "SequenceFeatureExtractor"),
    *("ProcessorMixin", "AutoImageProcessor", "AutoFeatureExtractor", "AutoProcessor", "BatchEncoding", "BatchFeature"),
}
# Public, but imported from the module that has them.
BY_MODULE = {
    "packing": (
        "Packing and attention",
        {"maquette.modeling.packing": ("lay_out", "attention", "Layout", "use_packing", "LaidOutOutput")},
    ),
    "testing": (
        "Conformance",
        {"maquette.testing": ("check_config", "check_model", "Report", "ConformanceError")},
    ),
    "workshop": (
        "The workshop",
        {
            "maquette.workshop": (
                "make_package",
                "check",
                "Examination",
                "convert",
                "graft",
                "Conversion",
                "try_out",
                "FirstLook",
                "ship",
                "Shipment",
            ),
            "maquette.workshop.xray": ("xray",),
            "maquette.workshop.diff": ("diff", "find_divergence"),
        },
    ),
}


def public_names() -> dict[str, str]:
    """Map each public name to the module that has it; a name that the registry makes, to `maquette.auto.models`."""
    found: dict[str, str] = {}
    for node in ast.parse(STUB.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            home = node.module.partition("._")[0]
            found |= {alias.name: home for alias in node.names if not (alias.asname or "").startswith("_")}
        elif isinstance(node, ast.ClassDef):
            found[node.name] = "maquette.auto.models"
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found[node.target.id] = "maquette.storage.version"
    return found


def group_of(module: str) -> str:
    """Name the page of the reference that has the names of a module; the longest match counts."""
    inner = module.removeprefix("maquette.")
    if inner.startswith("models."):
        return "family_" + inner.split(".")[1]
    fits = [(len(start), page) for page, (_, starts) in GROUPS.items() for start in starts if _begins(inner, start)]
    if not fits:
        raise KeyError(f"docs/making/site.py: no page of the reference has the names of {module}; add it to GROUPS")
    return max(fits)[1]


def _begins(module: str, start: str) -> bool:
    return module == start or module.startswith(f"{start}.")


def reference_pages() -> dict[str, str]:
    """Give the pages of the reference as Markdown, by file name, in the order of the navigation."""
    names: dict[str, list[tuple[str, str]]] = {}
    for name, module in public_names().items():
        names.setdefault(group_of(module), []).append((name, module))
    titles = {page: title for page, (title, _) in GROUPS.items()}
    pages = {f"reference/{page}.md": _write_page(titles[page], names.pop(page)) for page in titles}
    for page, (title, modules) in BY_MODULE.items():
        lines = [f"# {title}", ""]
        for module, members in modules.items():
            lines += [f"From `{module}`:", "", *(f"::: {module}.{name}\n" for name in members)]
        pages[f"reference/{page}.md"] = "\n".join(lines)
    for page in sorted(names):
        pages[f"reference/{page}.md"] = _write_page(_name_family([name for name, _ in names[page]]), names[page])
    return pages


def _name_family(names: list[str]) -> str:
    """Name a family by its configurations; those of parts, such as `CLIPTextConfig`, say no more."""
    stems = sorted({name.removesuffix("Config") for name in names if name.endswith("Config")}, key=len)
    whole = [stem for stem in stems if not any(stem != other and stem.startswith(other) for other in stems)]
    return ", ".join(sorted(whole))


def _write_page(title: str, names: list[tuple[str, str]]) -> str:
    lines = [f"# {title}", ""]
    made = []
    for name, module in names:
        if name in FOREIGN:
            lines += [f'## `{name}` <span id="{name}"></span>', "", FOREIGN[name], ""]
        elif module == "maquette.auto.models" and name != "AutoConfig":
            made.append(name)
        else:
            lines += [f"::: {module}.{name}", ""]
            if name in WITH_INHERITED:
                lines[-1:] = ["    options:", "      inherited_members: true", ""]
    if made:
        lines += ["## One class for each task { #by-task }", "", "All have the methods of `AutoModelBase`.", ""]
        lines += [f'- <code id="{name}">{name}</code>' for name in made]
        lines += ["", "::: maquette.auto.models.AutoModelBase", ""]
    return "\n".join(lines)


def sections(index: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Read the index: each heading with the titles and files of the pages under it."""
    for part in re.split(r"^## ", index, flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        yield heading.strip(), re.findall(r"^\| \[([^]]+)\]\(([\w./]+\.md)\)", body, flags=re.MULTILINE)


def on_config(config: MkDocsConfig) -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    nav: list[Any] = [{"Home": "README.md"}]
    for heading, pages in sections(index):
        if pages:
            nav.append({heading: [{title: _place(file)} for title, file in pages]})
    titles = {name: text.partition("\n")[0].removeprefix("# ") for name, text in reference_pages().items()}
    families = [{title: name} for name, title in titles.items() if "/family_" in name]
    parts = [{title: name} for name, title in titles.items() if "/family_" not in name]
    nav.append({"Reference": [*parts, {"Families": families}]})
    nav.append({"Changes": "changelog.md"})
    config.nav = nav


def _place(file: str) -> str:
    """Say where a file that the index names is on the site."""
    outside = {f"../{source}": place for place, source in ALONG.items()}
    return outside.get(file, file)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for place, source in ALONG.items():
        head = "---\nsearch:\n  exclude: true\n---\n\n" if source == "CHANGELOG.md" else ""
        files.append(File.generated(config, place, content=head + (ROOT / source).read_text(encoding="utf-8")))
    for place, text in reference_pages().items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Fences as the site wants them, and links to what the site has; others become the path's name."""
    place = page.file.src_uri
    base = posixpath.dirname(ALONG.get(place, f"docs/{place}"))
    parts = re.split(r"(^```[^\n]*\n.*?^```$)", markdown, flags=re.MULTILINE | re.DOTALL)
    parts[::2] = [re.sub(r"(!?)\[([^]]*)\]\(([^)\s]+)\)", lambda m: _link(m, base, files), text) for text in parts[::2]]
    parts[1::2] = [_fence(text) for text in parts[1::2]]
    if not place.startswith("reference/") and place not in ALONG:
        parts[::2] = _link_names(parts[::2])
    return "".join(parts)


def _link_names(texts: list[str]) -> list[str]:
    """Link the first mention of each public name on a page to the reference; headings and links stay as they are."""
    names = public_names()

    def link(found: re.Match[str]) -> str:
        module = names.pop(found["name"] or "", None)
        if module is None:
            return found.group()
        name = found["name"]
        if name in FOREIGN or (module == "maquette.auto.models" and name != "AutoConfig"):
            return f"[`{name}`](reference/{group_of(module)}.md#{name})"
        return f"[`{name}`][{module}.{name}]"

    pattern = r"^#.*$|\[[^]]*\]\([^)]*\)|`(?P<name>\w+)`|`[^`\n]*`"
    return [re.sub(pattern, link, text, flags=re.MULTILINE) for text in texts]


def _fence(text: str) -> str:
    text = re.sub(r"\A```(\w+) file=(\S+)", r'```\1 title="\2"', text)
    return re.sub(r"\A```(\w+) (?:fresh|peft)", r'```\1 title="in a new process"', text)


def _link(found: re.Match[str], base: str, files: Files) -> str:
    picture, text, target = found.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in target or target.startswith("mailto:"):
        return found.group()
    full = posixpath.normpath(posixpath.join(base, path))
    place = {source: place for place, source in ALONG.items()}.get(full, full.removeprefix("docs/"))
    if files.get_file_from_path(place) is not None:
        return f"{picture}[{text}]({place}{'#' + anchor if anchor else ''})"
    if not (ROOT / full).exists():
        return found.group()  # mkdocs says that it leads nowhere
    return text if text.strip("`") == full else f"{text} (`{full}`)"


def missing_from_index() -> list[str]:
    """List the pages that the index does not name, so that the site would not have them in its navigation."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = {file for _, pages in sections(index) for _, file in pages}
    return sorted(path.name for path in (ROOT / "docs").glob("*.md") if path.name not in {*named, "README.md"})
