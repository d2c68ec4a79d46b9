"""From a folder of downloads to one submission for each student, read within limits; nothing is unpacked to disk.

Names of students come from the layouts of Canvas, Moodle, Gradescope and nbgrader, from folders, or from file names.
Links are not followed, and what is not a plain file is not opened.
"""

import contextlib
import datetime
import io
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from utils.grading.homework import Stop
from utils.grading.repair import MAX_BYTES, worth

MB = 1_000_000
MAX_DEPTH = 12  # folders within folders
MAX_FILES = 100_000  # in the folder as a whole
MAX_ENTRIES = 20_000  # in one zip
MAX_TABLE = 4 * MB  # a zip's table of contents
MAX_ZIP = 100 * MB  # a zip within a zip
MAX_UNPACKED = 4_000 * MB  # what a zip claims to hold, all together
MAX_RATIO = (
    200  # unpacked to packed, from a megabyte on; for a zip within a zip, which is packed already, a tenth
)
MAX_KEPT = 2_000 * MB  # all notebooks together, for they are kept in memory
MAX_TRIED = 20  # notebooks of one student that are looked into
CHUNK = 1 << 20

NOTEBOOK = re.compile(r"\.ipynb(?:\.(?:txt|json))?$|\.json$", re.IGNORECASE)
WORK = re.compile(
    r"\.(?:ipynb(?:\.txt|\.json)?|py|pdf|html?|docx?|odt|rtf|rar|7z|tar|t?gz|zip)$", re.IGNORECASE
)
CANVAS = re.compile(r"(?P<name>[^_]+)_(?:LATE_)?(?P<id>\d+)_(?P<upload>\d+)_(?P<file>.+)", re.DOTALL)
AGAIN = re.compile(r"-(\d{1,4})(?=\.\w+$)")  # Canvas calls the second upload of hw07.ipynb hw07-1.ipynb
MOODLE = re.compile(r"(?P<name>.+?)_(?P<id>\d+)_assignsubmission_.*", re.DOTALL)
GRADESCOPE = re.compile(r"submission_\d+")
COPY = re.compile(r"(?: \(\d{1,3}\)|-Copy\d{1,3})$")  # added by browsers and by Jupyter
EMPTY = "holds nothing: no file was handed in."
JUNK = {"__MACOSX", "__pycache__", "Thumbs.db", "desktop.ini"}
BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
)


@dataclass(frozen=True)
class Submission:
    """What one student handed in.

    file: where it stands below the folder, for people   data: the bytes of the notebook, None if there is none
    problem: a sentence, where there is nothing to grade   notes: sentences for the student
    """

    student: str
    file: str
    data: bytes | None = None
    problem: str = ""
    notes: tuple = ()


class Refused(Exception):
    """The second half of a sentence that begins with a file's name: why it is not read."""


@dataclass(frozen=True)
class Item:
    """A file below the folder, or in a zip there.

    path: the names that tell whose it is, from the outside in   shown: all of them, for people
    where: (the path on disk, the number of the entry in that zip, the number of the entry in the zip within)
    """

    path: tuple
    shown: str
    where: tuple
    modified: float = 0.0
    refused: str = ""
    is_folder: bool = False

    @property
    def name(self):
        return self.path[-1]

    @property
    def is_notebook(self):
        return bool(NOTEBOOK.search(self.name)) and not self.is_folder

    @property
    def is_zip(self):
        return self.name.lower().endswith(".zip") and not self.is_folder


@dataclass(frozen=True)
class Who:
    """A student. key: differs between students   extra: tells two of the same name apart, for people"""

    key: tuple
    name: str
    extra: str = ""


def collect(folder, homework):
    """The submissions in a folder, a zip or a single notebook: one for each student, in the order of their names."""
    with contextlib.closing(Shelf()) as shelf:
        items = unwrapped(list(unpacked(listed(Path(folder)), shelf)), homework.name)
        roster = roster_of(items, shelf)
        theirs, people = defaultdict(list), {}
        for item in items:
            for who in students(item, roster):
                theirs[who.key].append(item)
                people.setdefault(who.key, who)
        theirs = {
            key: [item for item in found if not borrowed(item)] or found for key, found in theirs.items()
        }
        labels, room, made = labelled(people.values()), [MAX_KEPT], []
        for key in sorted(theirs, key=lambda key: (labels[key].casefold(), labels[key])):
            made.append(submission(labels[key], theirs[key], shelf, homework, room))
    if not made:
        raise Stop(
            f"There is nothing to grade in {clean(str(folder))}: it should hold notebooks, folders or zips."
        )
    return made


# What is there: files, folders, zips -----------------------------------------------------------------------------


def listed(folder):
    """All items of a folder on disk, or the one that a file is."""
    if not os.path.exists(folder):  # nor what lies behind a folder that one may not enter
        raise Stop(f"There is no folder {clean(str(folder))}: give the folder that holds the submissions.")
    folder = folder.resolve()
    if not folder.is_dir():
        return [Item((folder.name,), clean(folder.name), (str(folder),), folder.stat().st_mtime)]
    seen = list(walk(str(folder), ()))
    links = Counter((state.st_dev, state.st_ino) for _, state in seen if state)
    words = "is a hard link to a file elsewhere, which is not read: hand in a copy."
    return [
        replace(item, refused=words) if state and state.st_nlink > links[state.st_dev, state.st_ino] else item
        for item, state in seen
    ]


def walk(folder, path, count=None):
    """(item, its state on disk) for each thing below a folder; the state of what is no plain file is None."""
    count = count or [0]
    try:
        entries = sorted(
            (entry for entry in os.scandir(folder) if not is_junk(entry.name)), key=lambda one: one.name
        )
    except OSError as error:
        yield (
            Item(
                path, shown(path), (folder,), refused=f"cannot be opened: {error.strerror}.", is_folder=True
            ),
            None,
        )
        return
    if not entries and path:
        yield Item(path, shown(path), (folder,), refused=EMPTY, is_folder=True), None
    for entry in entries:
        count[0] += 1
        if count[0] > MAX_FILES:
            raise Stop(
                f"There are more than {MAX_FILES:,} files: give the folder that holds only the submissions."
            )
        here, state = (*path, entry.name), entry.stat(follow_symlinks=False)
        item = Item(here, shown(here), (entry.path,), state.st_mtime)
        if stat.S_ISDIR(state.st_mode) and len(here) <= MAX_DEPTH:
            yield from walk(entry.path, here, count)
        elif stat.S_ISREG(state.st_mode):
            yield item, state
        else:
            yield replace(item, refused=refusal_of(state.st_mode)), None


def refusal_of(mode):
    """Why something with this mode is not read."""
    if stat.S_ISLNK(mode):
        return "is a link to another place, which is not followed: hand in the file itself."
    if stat.S_ISDIR(mode):
        return f"lies more than {MAX_DEPTH} folders deep and is not opened."
    return "is no plain file (a pipe, socket or device) and is not opened."


def is_junk(name):
    """What systems and editors leave beside the work."""
    return name in JUNK or name.startswith("._") or name.startswith(".") and not name.endswith(".ipynb")


def unpacked(items, shelf):
    """The items, where what is in a zip stands in its place; a zip in a zip in a zip stays closed."""
    for item in items:
        if not item.is_zip or item.refused:
            yield item
            continue
        try:
            if len(item.where) > 2:
                raise Refused("is a zip in a zip in a zip, which is not opened: hand in the page itself.")
            inside = list(entries(item, shelf))
            yield from unpacked(inside, shelf) if inside else [replace(item, refused="is an empty zip.")]
        except Refused as refused:
            yield replace(item, refused=str(refused))


def entries(item, shelf):
    """The items in a zip; Refused where the zip as a whole is not to be trusted."""
    infos = shelf.archive(item.where).infolist()
    if len(infos) > MAX_ENTRIES:
        raise Refused(f"is a zip with more than {MAX_ENTRIES:,} entries and is not opened.")
    if sum(info.file_size for info in infos) > MAX_UNPACKED:
        raise Refused(f"is a zip that would unpack to more than {MAX_UNPACKED // MB:,} MB and is not opened.")
    ends = sorted((info.header_offset, info.header_offset + 30 + info.compress_size) for info in infos)
    if any(end > start for (_, end), (start, _) in zip(ends, ends[1:])):
        raise Refused("is a zip whose entries overlap, as no honest program packs them; it is not opened.")
    names = [name_of(info) for info in infos]
    parents = {path[:depth] for path, _ in names for depth in range(len(path))}
    for number, (info, (path, leads_out)) in enumerate(zip(infos, names)):
        if not path or any(map(is_junk, path)) or info.is_dir() and path in parents:
            continue
        words = EMPTY if info.is_dir() else refusal_of_entry(info, path, leads_out)
        where, whole = (*item.where, number), (*item.path, *path)
        yield Item(whole, f"{item.shown}/{shown(path)}", where, moment(info), words, info.is_dir())


def name_of(info):
    """(the names of an entry's path, whether the path leads out of the zip)."""
    name = info.filename
    if not info.flag_bits & 0x800:  # the zip does not say that it is UTF-8, but it may be
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    parts = re.split(r"[/\\]", name)
    leads_out = name.startswith(("/", "\\")) or ".." in parts or bool(re.match("[A-Za-z]:", name))
    return tuple(part for part in parts if part not in ("", ".", "..") and not part.endswith(":")), leads_out


def refusal_of_entry(info, path, leads_out):
    """Why an entry of a zip is not read, "" if it is."""
    mode, is_zip = info.external_attr >> 16, path[-1].lower().endswith(".zip")
    ratio = info.file_size / max(1, info.compress_size)
    if leads_out:
        return "has a path that leads out of its zip and is not read."
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return refusal_of(mode)
    if info.flag_bits & 1:
        return "is locked with a password: hand it in without one."
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is packed in an unusual way: pack it as a plain zip."
    if info.file_size > MB and ratio > (MAX_RATIO / 10 if is_zip else MAX_RATIO):
        return f"would unpack to {ratio:,.0f} times its size and is not read."
    return ""


def moment(info):
    """When an entry was changed, in seconds; 0 if the zip does not say."""
    try:
        return datetime.datetime(*info.date_time, tzinfo=datetime.UTC).timestamp()
    except ValueError:
        return 0.0


class Limited(io.RawIOBase):
    """A file that gives no more at once than a zip's table of contents may hold."""

    def __init__(self, file):
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size=-1):
        data = self.file.read(MAX_TABLE + 1 if size is None or size < 0 else min(size, MAX_TABLE + 1))
        if len(data) > MAX_TABLE:
            raise zipfile.BadZipFile("the table of contents is too long")
        return data

    def close(self):
        self.file.close()


def plain_file(path):
    """A file on disk opened for reading; Refused if it is no longer a plain file."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    try:
        number = os.open(path, flags)
    except OSError as error:
        raise Refused(f"cannot be opened: {error.strerror}.") from None
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        raise Refused(refusal_of(mode))
    return open(number, "rb")


class Shelf:
    """Reads files and entries of zips, each within a limit; it keeps the last few zips open."""

    def __init__(self):
        self.archives = {}

    def archive(self, where):
        """The zip at this place, opened."""
        if where in self.archives:
            self.archives[where] = self.archives.pop(where)  # the latest stands last
            return self.archives[where]
        file = plain_file(where[0]) if len(where) == 1 else io.BytesIO(self.read(where, MAX_ZIP))
        try:
            archive = zipfile.ZipFile(Limited(file))
        except BROKEN:
            file.close()
            raise Refused("is no zip that can be opened: it is damaged, or it is something else.") from None
        while len(self.archives) > 2:
            self.archives.pop(next(iter(self.archives))).fp.close()
        self.archives[where] = archive
        return archive

    def read(self, where, most):
        """The bytes at this place; Refused if there are more than `most`."""
        if len(where) == 1:
            return within(plain_file(where[0]), most)
        archive = self.archive(where[:-1])
        try:
            return within(archive.open(archive.infolist()[where[-1]]), most)
        except BROKEN:
            raise Refused("is damaged in its zip and cannot be read.") from None

    def close(self):
        while self.archives:
            self.archives.popitem()[1].fp.close()


def within(file, most):
    """All bytes of an open file, which is closed then; Refused if there are more than `most`."""
    chunks, size = [], 0
    with file:
        while chunk := file.read(CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > most:
                raise Refused(f"is larger than {most // MB} MB. Clear the outputs and hand it in again.")
    return b"".join(chunks)


# Whose it is ---------------------------------------------------------------------------------------------------


def unwrapped(items, homework):
    """The items without the outer folder or zip that only holds the class."""
    while items and all(len(item.path) > 1 for item in items) and len({item.path[0] for item in items}) == 1:
        inside = {
            COPY.sub("", WORK.sub("", item.path[1])) for item in items if item.is_notebook or item.is_zip
        }
        inside |= {item.path[1] for item in items if len(item.path) > 2}
        own = homework in items[0].path[0].lower() or items[0].path[0].lower().startswith("submi")
        if by_layout(items[0].path) or not own and sum(homework not in name.lower() for name in inside) < 2:
            break
        items = [replace(item, path=item.path[1:]) for item in items]
    return items


def students(item, roster):
    """Whose item this is: a list, for a group hands in together; empty if it is no one's."""
    if item.name == "submission_metadata.yml":
        return []
    if who := by_layout(item.path):
        return roster.get(who.key, [who])
    if len(item.path) == 1 and not (item.refused or item.is_folder or WORK.search(item.name)):
        return []
    is_file = len(item.path) == 1 and not item.is_folder or item.path[0].lower().endswith(".zip")
    name = COPY.sub("", WORK.sub("", item.path[0])) if is_file else item.path[0]
    return [Who(("name", unicodedata.normalize("NFC", name)), name)]


def by_layout(path):
    """The student, as the download of a platform names it in a path; None if this is no such download."""
    for at, part in enumerate(path):
        part = part[:-4] if part.lower().endswith(".zip") else part
        if GRADESCOPE.fullmatch(part):
            return Who(("gradescope", part), part)
        for platform, pattern in (("moodle", MOODLE), ("canvas", CANVAS)):
            if match := pattern.fullmatch(part):
                return Who((platform, match["name"], match["id"]), match["name"], match["id"])
        if part == "submitted" and len(path) > at + 2:
            return Who(("name", unicodedata.normalize("NFC", path[at + 1])), path[at + 1])
    return None


def borrowed(item):
    """Whether the student's name stands only inside a zip, which somebody else may have packed."""
    zips = [at for at, part in enumerate(item.path) if part.lower().endswith(".zip")]
    return bool(zips and by_layout(item.path) and not by_layout(item.path[: zips[0] + 1]))


def roster_of(items, shelf):
    """{key of a Gradescope submission: its students}, from the export's own list; empty where there is none."""
    roster = {}
    for item in items:
        if item.name == "submission_metadata.yml" and not by_layout(
            item.path
        ):  # not one that a student packed
            with contextlib.suppress(Refused):
                text = shelf.read(item.where, MAX_ZIP).decode("utf-8", "replace")
                roster |= dict(submitters(text.replace("\r\n", "\n")))
    return roster


def submitters(text):
    """(key, students) for each submission of the list. Only its few lines with names are parsed, without tags."""
    for block in re.split(r"^(?=submission_\d+:)", text, flags=re.MULTILINE):
        names = re.search(
            r"^(submission_\d+):.*?^  :submitters:\n((?:  +[^\n]*\n|  ?- [^\n]*\n)+?)(?=  :|\S|\Z)",
            block,
            re.M | re.S,
        )
        if not names:
            continue
        try:
            people = yaml.safe_load(names[2])
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
        if made := [who for one in people if isinstance(people, list) and (who := person(one))]:
            yield ("gradescope", names[1]), made


def person(entry):
    """A student of Gradescope's list, None if the entry has no name."""
    name, mail, number = (
        (entry.get(key) for key in (":name", ":email", ":sid")) if isinstance(entry, dict) else [""] * 3
    )
    if not isinstance(name, str) or not name.strip():
        return None
    extra = str(number or mail or "")
    return Who(("gradescope", name, extra), name, extra)


def labelled(people):
    """{key: the student's name}, each name once: of two that look alike, both say what tells them apart."""
    labels = {who.key: clean(who.name) for who in people}
    extras = {who.key: clean(who.extra) for who in people if who.extra}
    often = Counter(labels.values())
    taken = set()
    for key in sorted(labels):
        label = labels[key]
        if often[label] > 1 and key in extras:
            label = f"{label} ({extras[key]})"
        turn = 2
        while label in taken:
            label, turn = f"{labels[key]} [{turn}]", turn + 1
        labels[key] = label
        taken.add(label)
    return labels


def clean(name):
    """A name as people can read it: composed letters, one line, no marks that turn the direction of the text."""
    name = name.encode("utf-8", "surrogateescape" if is_raw(name) else "replace").decode("utf-8", "replace")
    name = unicodedata.normalize("NFC", name)
    kinds = [(letter, unicodedata.category(letter)) for letter in name]
    kept = [
        " " if kind in ("Cc", "Zl", "Zp") else letter
        for letter, kind in kinds
        if kind not in ("Cf", "Cs", "Co") or letter in "\u200c\u200d"
    ]
    return " ".join("".join(kept).split())[:150] or "unnamed"


def is_raw(name):
    """Whether the name holds bytes that are no UTF-8, as Python keeps them."""
    return all(not 0xD800 <= ord(letter) <= 0xDFFF or 0xDC80 <= ord(letter) <= 0xDCFF for letter in name)


def shown(path):
    return clean("/".join(path))


# The one notebook that counts ------------------------------------------------------------------------------------


def submission(student, items, shelf, homework, room):
    """What counts of all that a student handed in."""
    notes, tried, refused = [], [], [item for item in items if item.refused not in ("", EMPTY)]
    found = sorted(
        (item for item in items if item.is_notebook and not item.refused), key=lambda item: -item.modified
    )
    best = None
    for item in found[:MAX_TRIED]:
        try:
            data = shelf.read(item.where, MAX_BYTES)
        except Refused as words:
            refused.append(replace(item, refused=str(words)))
            continue
        rank = ranked(item, data, homework) if len(found) > 1 else ()
        tried.append((item, rank))
        if best is None or rank > best[0]:
            best = (rank, item, data)
    if best is None:
        file, problem = why_nothing(items, refused)
        return Submission(student, file, problem=problem)
    rank, item, data = best
    room[0] -= len(data)
    if room[0] < 0:
        words = f"{item.shown} was not read: all notebooks together exceed {MAX_KEPT // MB:,} MB; grade them in parts."
        return Submission(student, item.shown, problem=words)
    if len(found) > 1:
        notes.append(f"{len(found)} notebooks were handed in; {item.shown} is graded, {why(rank, tried)}.")
    if not item.name.lower().endswith(".ipynb"):
        notes.append(f"{item.shown} does not end in .ipynb; it was read as a notebook.")
    notes += [f"{other.shown} {other.refused}" for other in refused]
    return Submission(student, item.shown, data, notes=tuple(notes))


def ranked(item, data, homework):
    """What makes one notebook of a student count before another, the weightiest first."""
    held, written = worth(data, homework)
    parts = [match for part in item.path if (match := CANVAS.fullmatch(part))]
    again = [int(match[1]) for match in [AGAIN.search(parts[-1]["file"])] if match] if parts else []
    upload = int(parts[-1]["upload"]) if parts else 0
    belongs = min(held, len(homework.exercises) // 2 + 1)
    return belongs, written > 0, sum(again), item.modified, upload, written, item.shown


def why(best, tried):
    """Why this notebook and not another, in a few words."""
    if any(rank[:2] == best[:2] and rank != best for _, rank in tried):
        return "the newest of those with most answers to this homework"
    return "the one with most answers to this homework"


def why_nothing(items, refused):
    """(file, problem) of a student without a notebook."""
    if refused:
        return refused[0].shown, f"{refused[0].shown} {refused[0].refused}"
    files = sorted({item.shown for item in items if not item.is_folder})
    if not files:
        return items[0].shown, f"{items[0].shown} {EMPTY}"
    names = ", ".join(files[:3]) + (" …" if files[3:] else "")
    return files[0], f"There is no notebook, only {names}: hand in the page itself, the .ipynb file."
