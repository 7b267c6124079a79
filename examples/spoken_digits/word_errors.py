"""How often a word was written down wrongly: over all, and by voice and speed."""


def count_errors(said: str, heard: str) -> int:
    """Count the words to replace, leave out or put in, at the least (Levenshtein 1966)."""
    words = heard.split()
    row = [*range(len(words) + 1)]  # errors in what has been said so far, for every start of what was heard
    for number, word in enumerate(said.split(), start=1):
        above, row = row, [number]
        for place, other in enumerate(words):
            row.append(min(above[place] + (word != other), above[place + 1] + 1, row[place] + 1))
    return row[-1]


def report(clips: list, heard: list[str]) -> str:
    """Give the word error rate of some clips, and that of each accent, variant and speed among them."""
    results = [(count_errors(clip.text, text), len(clip.text.split())) for clip, text in zip(clips, heard, strict=True)]
    errors, words = (sum(column) for column in zip(*results, strict=True))
    voices = len({clip.voice for clip in clips})
    lines = [
        f"Word error rate on unseen voices and speeds: {rate(results)} ({errors} of {words} words, {voices} voices)."
    ]
    for title, key in {
        "accent": lambda clip: clip.voice.partition("+")[0],
        "variant": lambda clip: clip.voice.partition("+")[2],
        "words a minute": lambda clip: clip.speed,
        "words in a clip": lambda clip: len(clip.text.split()),
    }.items():
        groups = {}
        for clip, result in zip(clips, results, strict=True):
            groups.setdefault(key(clip), []).append(result)
        lines.append(f"  by {title}: " + ", ".join(f"{name} {rate(groups[name])}" for name in sorted(groups)))
    return "\n".join(lines)


def rate(results: list[tuple[int, int]]) -> str:
    errors, words = (sum(column) for column in zip(*results, strict=True))
    return f"{100 * errors / words:.1f} %"
