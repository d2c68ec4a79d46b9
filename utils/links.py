"""The links that lead out of the course: python -m utils.links asks each address whether it still answers.

Read are Markdown files, pages and utils: addresses, and the models that they open on the hub. An address that is gone
(404, 410, a name that nobody knows) makes the exit status 1; one that refuses machines, or is slow, is only told.
"""

import http.client
import json
import re
import sys
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from utils import course, setup

LINK = re.compile(r"https?://[\w.-]+\.[a-z]{2,}(?::\d+)?(?:/[^\s<>\"'`|\\\[\](){}#]*)?")
MODEL = re.compile(r"(?:load|tokenizer|encoder|from_pretrained)\(\s*[\"']([\w.-]+/[\w.-]+)[\"']")
OWN = "example.com", "colab.research.google.com", "mybinder.org"  # examples, and buttons to our own pages
AGENT = {"User-Agent": "Mozilla/5.0 (a course that checks its links once a week)"}


def texts():
    """{file from the course's root: its text}; of a page the source of its cells."""
    root, found = course.root(), {}
    for pattern in (
        "*.md",
        "data/**/*.md",
        ".github/**/*.md",
        "utils/*.py",
        "notebooks/*.ipynb",
        "solutions/*.ipynb",
    ):
        for path in sorted(root.glob(pattern)):
            text = path.read_text(encoding="utf-8")
            if path.suffix == ".ipynb":
                text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
            found[path.relative_to(root).as_posix()] = text
    return found


def links(texts):
    """{address: the files that name it}, without our own addresses and those that are still to come."""
    found = {}
    for name, text in texts.items():
        named = [link.rstrip(".,;:!?*_…") for link in LINK.findall(text)]
        for link in [*named, *(f"https://huggingface.co/{model}" for model in MODEL.findall(text))]:
            parts = urlsplit(link)
            if parts.path.strip("/") and parts.hostname not in OWN and "OWNER/REPO" not in link:
                found.setdefault(link, set()).add(name)
    return {link: sorted(found[link]) for link in sorted(found)}


def ask(link, seconds, method):
    """The status that an address answers with, or a few words why none came."""
    try:
        request = urllib.request.Request(link, method=method, headers=AGENT)
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except urllib.error.URLError as error:
        return f"{error.reason}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__


def verdict(link, seconds=10.0):
    """(is it well?, what was found): True, False for an address that is gone, None for what nobody can tell."""
    found = ask(link, seconds, "HEAD")
    if found != 200:  # many servers answer only to who wants the page
        found = ask(link, seconds, "GET")
    gone = found in (404, 410) or re.search("not known|No address|nodename|getaddrinfo", str(found))
    return (True if found == 200 else False if gone else None), found


def check(found, workers=8, seconds=10.0):
    """{address: verdict}: several at a time, but one at a time of each host."""
    hosts = {link: threading.Lock() for link in {urlsplit(link).hostname for link in found}}

    def one(link):
        with hosts[urlsplit(link).hostname]:
            return verdict(link, seconds)

    with ThreadPoolExecutor(workers) as pool:
        return dict(zip(found, pool.map(one, found)))


def main():
    """Ask all, tell what is not well; 1 if an address is gone."""
    found = links(texts())
    verdicts = check(found)
    for link, (well, said) in verdicts.items():
        if not well:
            setup.say(f"{course.SIGNS[well]} {link} ({said}), in {', '.join(found[link])}")
    gone = sum(well is False for well, _ in verdicts.values())
    setup.say(
        f"{len(found)} links: {gone} gone, {sum(well is None for well, _ in verdicts.values())} not to be told."
    )
    return int(gone > 0)


if __name__ == "__main__":
    sys.exit(main())
