"What is known of programs that fixes name (programs.toml), and how words are held to it."

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf8"))
WHAT, USAGE = _TABLES["what"], _TABLES["usage"]
DOCKER_RUN = " ".join(each for each in USAGE["docker run"].split() if each.startswith("-"))


def refused(words: list[str], usage: str, command: Callable[[list[str]], str]) -> str:
    "What a usage says against words, empty where they fit; `command` judges a command in them."
    parts = usage.split()
    options = {each.rstrip("="): each.endswith("=") for each in parts if each[0] in "-+"}
    places = [each for each in parts if each[0] not in "-+"]
    rest, given = list(words), []
    while rest:
        word = rest.pop(0)
        if word == "--":
            given += rest
            break
        if word == "-" or word[0] not in "-+" or word[0] == "+" and word not in options:
            if "COMMAND…" in places and len(given) == places.index("COMMAND…"):
                if places[0] == "COMMAND…" and re.match(r"\w+=", word):
                    continue  # env and sudo take assignments before a command
                return command([word, *rest])
            given.append(word)
            continue
        name, has_value, _ = word.partition("=")
        if has_value and options.get(name):
            continue
        if name in options and not has_value:
            if options[name] and not rest:
                return f"{name} takes a value"
            if options[name]:
                rest.pop(0)
            continue
        if word.startswith("--"):
            return f"no option {word}"
        for place, letter in enumerate(word[1:], 2):
            if f"-{letter}" not in options:
                return f"no option -{letter} in {word}"
            if options[f"-{letter}"]:
                if not word[place:] and not rest:
                    return f"-{letter} takes a value"
                if not word[place:]:
                    rest.pop(0)
                break
    many = any(each.endswith("…") for each in places)
    least = sum(each[0] != "[" and not each.endswith("…") for each in places)
    if len(given) < least or len(given) > len(places) and not many:
        return f"{len(given)} words for {' '.join(places) or 'none'}"
    for place, word in zip(places, given):
        choices = place.strip("[]").split("|")
        if place.strip("[]…") != place.strip("[]…").upper() and word not in choices:
            return f"{word} is none of {', '.join(choices)}"
    return ""
