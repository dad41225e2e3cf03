"""The store: whole entries or none, one owner a name, and no work where nothing changed."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from vivavoce.errors import StorageError, StorageFull, TooManyVoices
from vivavoce.speech import folder_files, folder_index
from vivavoce.speech import folder_store as folder_store_module
from vivavoce.speech.folder_store import FolderStore
from vivavoce.speech.store import MemoryStore, Store, file_stem, folded

ABOUT = {"description": "somebody", "created_at_s": 7}
STORES = ("folder", "memory")


def folder_store(folder: Path) -> FolderStore:
    return FolderStore(folder, ".voice")


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Store]:
    if request.param == "memory":
        one = MemoryStore()
        return lambda: one
    return lambda: folder_store(tmp_path / "voices")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "voices"
    made.mkdir()
    return made


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def age(path: Path, by_s: float) -> None:
    then = time.time() - by_s
    os.utime(path, (then, then))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.file  # type: ignore[attr-defined]
        for record in caplog.records
        if record.levelno >= logging.WARNING and hasattr(record, "file")
    ]


# Every store.


@pytest.mark.parametrize("make", STORES, indirect=True)
@pytest.mark.parametrize("name", ["anna", "Anna Müller", "さくら", "con", "x" * 64, "𐌰" * 64])
def test_what_was_put_is_there(make: Callable[[], Store], name: str) -> None:
    assert make().put_if_absent(name, ABOUT, b"state")
    store = make()
    blob = store.get(name)
    assert blob is not None
    assert (dict(blob.about), blob.data) == (ABOUT, b"state")
    assert blob.version == store.version(name)
    assert {key: dict(about) for key, about in store.list().items()} == {name: ABOUT}


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_nothing_is_there_before(make: Callable[[], Store]) -> None:
    store = make()
    assert dict(store.list()) == {}
    assert store.get("anna") is None
    assert store.version("anna") is None
    assert not store.delete("anna")


@pytest.mark.parametrize("make", STORES, indirect=True)
@pytest.mark.parametrize("other", ["anna", "Anna", "ANNA"])
def test_a_taken_name_stays_as_it_is(make: Callable[[], Store], other: str) -> None:
    assert make().put_if_absent("anna", ABOUT, b"first")
    assert not make().put_if_absent(other, ABOUT, b"second")
    blob = make().get("anna")
    assert blob is not None
    assert blob.data == b"first"


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_a_replaced_entry_has_another_version(make: Callable[[], Store]) -> None:
    one, other = make(), make()
    for round_ in range(5):
        one.put("anna", ABOUT | {"round": round_}, b"%d" % round_)
        seen = other.get("anna")
        assert seen is not None
        assert (seen.about["round"], seen.data) == (round_, b"%d" % round_)
        before = other.version("anna")
        one.put("anna", ABOUT, b"%d" % round_)
        assert other.version("anna") not in (None, before)


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_a_removed_entry_is_gone_for_all(make: Callable[[], Store]) -> None:
    one, other = make(), make()
    one.put("anna", ABOUT, b"state")
    assert other.version("anna") is not None
    assert one.delete("anna")
    assert other.version("anna") is None
    assert other.get("anna") is None
    assert dict(other.list()) == {}
    assert not one.delete("anna")


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_the_list_is_the_same_object_until_something_changes(make: Callable[[], Store]) -> None:
    one, other = make(), make()
    one.put("bert", ABOUT, b"state")
    listed = other.list()
    assert other.list() is listed
    assert other.list() is listed
    one.put("anna", ABOUT, b"state")
    assert list(other.list()) == ["anna", "bert"]
    assert list(listed) == ["bert"]


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_removing_tells_cases_apart(make: Callable[[], Store]) -> None:
    make().put("anna", ABOUT, b"state")
    assert not make().delete("Anna")
    assert list(make().list()) == ["anna"]


# Folders.


def test_an_entry_is_two_files_of_its_name(folder: Path) -> None:
    folder_store(folder).put_if_absent("anna", ABOUT, b"state")
    assert files(folder) == ["anna.json", "anna.voice"]
    assert json.loads((folder / "anna.json").read_bytes()) == ABOUT
    assert (folder / "anna.voice").read_bytes() == b"state"
    assert (folder / "anna.voice").stat().st_mode & 0o077 == 0, "somebody's voice"


def test_a_folder_of_before_is_read(folder: Path) -> None:
    for name in ("anna", "Bert.2"):
        (folder / f"{name}.json").write_text(json.dumps(ABOUT))
        (folder / f"{name}.voice").write_bytes(b"state")
    assert list(folder_store(folder).list()) == ["Bert.2", "anna"]


def test_removing_leaves_nothing(folder: Path) -> None:
    store = folder_store(folder)
    for name in ("anna", "Anna Müller"):
        store.put(name, ABOUT, b"1")
        store.put(name, ABOUT, b"2")
        assert store.delete(name)
    assert files(folder) == []


def test_a_replaced_entry_leaves_nothing(folder: Path) -> None:
    store = folder_store(folder)
    for number in range(4):
        store.put("anna", ABOUT, b"%d" % number)
    assert len(files(folder)) == 2


@pytest.mark.parametrize("remains", [["x.json"], ["x.voice"], ["x.json", "x.voice"]])
def test_remains_can_be_removed(folder: Path, remains: list[str]) -> None:
    for file in remains:
        (folder / file).write_bytes(b"garbage")
    store = folder_store(folder)
    assert dict(store.list()) == {}
    assert store.delete("x")
    assert files(folder) == []


@pytest.mark.parametrize("name", ["../x", "..", "a/../../x", "/x", "x\0"])
def test_removing_never_leaves_the_folder(folder: Path, name: str) -> None:
    for file in (folder.parent / "x.json", folder.parent / "x.voice"):
        file.write_bytes(b"not yours")
    assert not folder_store(folder).delete(name)
    assert (folder.parent / "x.json").exists()


DAMAGED: dict[str, tuple[str, Any]] = {
    "empty": ("x", b""),
    "no JSON": ("x", b"{"),
    "not UTF-8": ("x", b'{"description": "\xff"}'),
    "no object": ("x", b"[1]"),
    "NaN": ("x", b'{"description": "", "created_at_s": NaN}'),
    "deep": ("x", b"[" * 100_000),
    "a path for its data": ("x", {"data": "../../secret.voice"}),
    "another's data": ("x", {"data": "other.voice"}),
    "a number for a name": ("x~0123456789abcdef", {"name": 5}),
    "another's name": ("x~0123456789abcdef", {"name": "other"}),
    "no name": ("x~0123456789abcdef", {}),
    "a file name that is none": ("\u202ex", {}),
    "refused by its owner": ("x", {"bad": 1}),
}


def refuse_bad(about: Any) -> None:
    if "bad" in about:
        raise ValueError("bad")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_entry_is_none_and_is_named_once(
    folder: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    stem, about = DAMAGED[kind]
    data = about if isinstance(about, bytes) else json.dumps(ABOUT | about).encode()
    (folder / f"{stem}.json").write_bytes(data)
    (folder / f"{stem}.voice").write_bytes(b"state")
    store = FolderStore(folder, ".voice", refuse_bad)
    store.put_if_absent("whole", ABOUT, b"state")
    for _ in range(3):
        assert list(store.list()) == ["whole"]
        store.put("whole", ABOUT, b"state")  # the folder is read again
    assert warnings(caplog) == [f"{stem}.json"]


def test_a_description_without_data_is_none_until_they_come(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "x.json").write_text(json.dumps(ABOUT))
    store = folder_store(folder)
    assert dict(store.list()) == {}
    assert warnings(caplog) == ["x.json"]
    (folder / "x.voice").write_bytes(b"state")
    assert list(store.list()) == ["x"]


def test_data_without_a_description_are_named_unless_they_are_just_written(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "old.voice").write_bytes(b"state")
    age(folder / "old.voice", 2 * folder_index.BEING_WRITTEN_S)
    (folder / "new.voice").write_bytes(b"state")
    store = folder_store(folder)
    assert dict(store.list()) == {}
    assert warnings(caplog) == ["old.voice"]
    assert store.put_if_absent("old", ABOUT, b"another"), "a remnant takes no name"
    blob = store.get("old")
    assert blob is not None
    assert blob.data == b"another"


def test_what_a_dead_process_left_is_swept_at_the_start(folder: Path) -> None:
    folder_store(folder).put("anna", ABOUT, b"1")
    folder_store(folder).put("anna", ABOUT, b"2")
    kept = files(folder)
    for file in (".0123456789abcdef.tmp", "tmp_x1y2z34", "anna~0badcafe.voice", "b~0badcafe.voice"):
        (folder / file).write_bytes(b"left")
    store = folder_store(folder)
    assert list(store.list()) == ["anna"]
    assert files(folder) == kept
    assert store.get("anna") is not None


def test_nothing_is_swept_that_another_process_is_writing(folder: Path) -> None:
    with folder_files.Writing(folder) as writing:
        temporary = writing.temporary(b"state")
        assert dict(folder_store(folder).list()) == {}
        assert temporary.exists()
        assert writing.claim(temporary, "x.voice")
        writing.keep()
    assert files(folder) == ["x.voice"]


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def other_folder(path: Path) -> None:
    path.mkdir()


NO_FILES = [pipe, device, link_to_nowhere, other_folder]


@pytest.mark.parametrize("ending", [".json", ".voice"])
@pytest.mark.parametrize("make_one", NO_FILES)
def test_what_is_no_plain_file_is_named_and_holds_up_nobody(
    folder: Path, caplog: pytest.LogCaptureFixture, make_one: Callable[[Path], None], ending: str
) -> None:
    store = folder_store(folder)
    store.put_if_absent("whole", ABOUT, b"state")
    store.put_if_absent("x", ABOUT, b"state")
    (folder / f"x{ending}").unlink()
    make_one(folder / f"x{ending}")
    for _ in range(3):
        assert list(folder_store(folder).list()) == list(store.list()) == ["whole"]
        assert store.get("x") is store.version("x") is None
        store.put("whole", ABOUT, b"state")  # the folder is read again
    assert set(warnings(caplog)) == {"x.json"}
    store.delete("x")
    left = {f"x{ending}"} if make_one is other_folder else set()
    assert {file for file in files(folder) if file.startswith("x")} == left


@pytest.mark.parametrize("make_one", NO_FILES)
def test_what_is_no_plain_file_is_named_where_nothing_describes_it(
    folder: Path, caplog: pytest.LogCaptureFixture, make_one: Callable[[Path], None]
) -> None:
    make_one(folder / "x.voice")
    assert dict(folder_store(folder).list()) == {}
    assert warnings(caplog) == ["x.voice"]


@pytest.mark.parametrize("make_one", NO_FILES)
def test_what_is_no_folder_can_lie_where_the_folder_should_be(
    tmp_path: Path, make_one: Callable[[Path], None]
) -> None:
    make_one(tmp_path / "voices")
    assert dict(folder_store(tmp_path / "voices").list()) == {}


def test_a_link_to_a_whole_file_is_followed(folder: Path, tmp_path: Path) -> None:
    folder_store(folder).put_if_absent("x", ABOUT, b"state")
    for ending in (".json", ".voice"):
        kept = tmp_path / f"elsewhere{ending}"
        (folder / f"x{ending}").rename(kept)
        (folder / f"x{ending}").symlink_to(kept)
    store = folder_store(folder)
    blob = store.get("x")
    assert blob is not None
    assert blob.data == b"state"
    assert store.delete("x")
    assert (tmp_path / "elsewhere.json").exists()


def test_data_without_end_are_not_read_to_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = folder_store(folder)
    store.put_if_absent("x", ABOUT, b"12345")
    monkeypatch.setattr(folder_store_module, "MAX_DATA_BYTES", 4)
    with pytest.raises(StorageError, match="far too large"):
        store.get("x")


# Names that differ by their case.


@pytest.mark.parametrize("name", ["Anna", "Zoë Müller", "ΣΊΣΥΦΟΣ", "straße"])
def test_the_file_of_a_name_knows_no_case(folder: Path, name: str) -> None:
    """So that of two processes only one can make it, whatever each has seen of the folder."""
    assert folder_store(folder).put_if_absent(name, ABOUT, b"state")
    (described,) = (file for file in files(folder) if file.endswith(".json"))
    for spelling in (name.upper(), name.swapcase(), name.casefold()):
        assert file_stem(folded(spelling)) + ".json" == described
    assert list(folder_store(folder).list()) == [name]


def test_whoever_saw_the_folder_before_takes_no_name_that_differs_by_its_case(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, late = folder_store(folder), folder_store(folder)
    late.list()
    assert one.put_if_absent("Anna", ABOUT, b"first")
    with monkeypatch.context() as patch:
        patch.setattr(folder_index.FolderIndex, "refresh", lambda *_, **__: None)
        assert not late.put_if_absent("anna", ABOUT, b"second")
    assert list(late.list()) == ["Anna"], "and what took it is seen at once"
    assert len(files(folder)) == 2


def test_an_entry_of_before_whose_file_has_its_case_is_kept(folder: Path) -> None:
    (folder / "Anna.json").write_text(json.dumps(ABOUT))
    (folder / "Anna.voice").write_bytes(b"state")
    store = folder_store(folder)
    assert not store.put_if_absent("anna", ABOUT, b"other")
    assert not store.put_if_absent("Anna", ABOUT, b"other")
    store.put("Anna", ABOUT, b"new")
    blob = store.get("Anna")
    assert blob is not None
    assert blob.data == b"new"
    assert store.delete("Anna")
    assert files(folder) == []


def test_remains_of_before_hold_their_name_until_they_are_removed(folder: Path) -> None:
    (folder / "Anna.json").write_bytes(b"garbage")
    store = folder_store(folder)
    assert not store.put_if_absent("Anna", ABOUT, b"state")
    assert store.delete("Anna")
    assert store.put_if_absent("Anna", ABOUT, b"state")


def test_replacing_takes_no_name_that_differs_by_its_case(folder: Path) -> None:
    store = folder_store(folder)
    store.put("Anna", ABOUT, b"state")
    with pytest.raises(StorageError):
        store.put("anna", ABOUT, b"other")
    assert list(store.list()) == ["Anna"]


# How many.


@pytest.mark.parametrize("make", STORES, indirect=True)
def test_no_more_are_kept_than_may_be_however_many_come_at_once(
    make: Callable[[], Store],
) -> None:
    store, start = make(), threading.Barrier(16)

    def put(number: int) -> bool:
        start.wait(60)
        try:
            return store.put_if_absent(f"voice{number}", ABOUT, b"state", 3)
        except TooManyVoices:
            return False

    with ThreadPoolExecutor(16) as threads:
        kept = sum(threads.map(put, range(16)))
    assert kept == len(store.list()) == 3


# Disks.


def failing(number: int, after: int = 0) -> Callable[..., None]:
    calls = iter(range(1_000))

    def fail(*_: Any) -> None:
        if next(calls) >= after:
            raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("after", [0, 1], ids=["at the data", "at the description"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_so_and_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: int
) -> None:
    store = folder_store(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(number, after))
        with pytest.raises(StorageFull) as caught:
            store.put_if_absent("anna", ABOUT, b"state")
    assert str(folder) not in caught.value.message
    assert files(folder) == []
    assert store.put_if_absent("anna", ABOUT, b"state"), "there is room again"


def test_a_full_disk_leaves_the_entry_that_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = folder_store(folder)
    store.put("anna", ABOUT, b"first")
    before = files(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.ENOSPC, 1))
        with pytest.raises(StorageFull):
            store.put("anna", ABOUT, b"second")
    assert files(folder) == before
    blob = store.get("anna")
    assert blob is not None
    assert blob.data == b"first"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_is_said_so_without_a_path(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    store = folder_store(folder)
    monkeypatch.setattr(os, "fsync", failing(number))
    with pytest.raises(StorageError, match=os.strerror(number)) as caught:
        store.put_if_absent("anna", ABOUT, b"state")
    assert not isinstance(caught.value, StorageFull)
    assert str(folder) not in caught.value.message


def test_without_hard_links_names_are_taken_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EPERM))
    one, other = folder_store(folder), folder_store(folder)
    assert one.put_if_absent("anna", ABOUT, b"first")
    assert not other.put_if_absent("anna", ABOUT, b"second")
    assert files(folder) == ["anna.json", "anna.voice"]
    assert one.delete("anna")
    assert files(folder) == []


def test_an_unreadable_folder_keeps_what_was_known(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = folder_store(folder)
    store.put("anna", ABOUT, b"state")
    assert list(store.list()) == ["anna"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", failing(errno.EIO))
        store.put("bert", ABOUT, b"state")
        for _ in range(3):
            assert list(store.list()) == ["anna"]
    assert len(warnings(caplog)) == 1
    assert list(store.list()) == ["anna", "bert"]


# Work.


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []
    real = folder_files.read_description

    def counting(path: Path) -> dict[str, Any]:
        read.append(path)
        return real(path)

    monkeypatch.setattr(folder_index, "read_description", counting)
    return read


def test_descriptions_are_read_once_and_again_only_where_they_changed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = folder_store(folder), folder_store(folder)
    for number in range(50):
        writer.put(f"voice{number:02}", ABOUT, b"state")
    writer.list()
    read = count_reads(monkeypatch)
    for _ in range(20):
        assert len(reader.list()) == 50
        assert reader.version("voice07") is not None
    assert len(read) == 50
    writer.put("voice07", ABOUT, b"new")
    assert reader.get("voice07") is not None
    assert {path.name for path in read[50:]} == {"voice07.json"}


def test_a_folder_where_nothing_changes_is_not_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = folder_store(folder)
    store.put("anna", ABOUT, b"state")
    age(folder, 2 * folder_index.SETTLED_S)
    store.list()
    monkeypatch.setattr(os, "scandir", failing(errno.EIO))
    for _ in range(100):
        assert list(store.list()) == ["anna"]


# Processes.

RACER = """
import sys
from pathlib import Path
from vivavoce.speech.folder_store import FolderStore
store = FolderStore(Path(sys.argv[1]), ".voice")
print("ready", flush=True)
sys.stdin.readline()
won = [n for n in range(40)
       if store.put_if_absent(f"{sys.argv[3]}{n}", {"by": sys.argv[2]}, sys.argv[2].encode())]
print(*won, flush=True)
"""

SAVER = """
import sys
from pathlib import Path
from vivavoce.speech.folder_store import FolderStore
store = FolderStore(Path(sys.argv[1]), ".voice")
print("ready", flush=True)
number = 0
while True:
    number += 1
    store.put_if_absent(f"voice{number % 7}", {"by": number}, b"%d" % number * 5000)
    store.put(f"voice{number % 7}", {"by": number}, b"%d" % number * 5000)
    if number % 3 == 0:
        store.delete(f"voice{number % 7}")
"""


@pytest.fixture
def run() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("names", [("voice",) * 3, ("voice", "Voice", "VOICE")])
def test_two_processes_never_both_take_a_name(
    folder: Path, run: Callable[..., subprocess.Popen[str]], names: tuple[str, ...]
) -> None:
    spelt = dict(zip("ABC", names, strict=True))
    racers = [run(RACER, str(folder), who, spelt[who]) for who in "ABC"]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    won = {who: racer.communicate()[0].split() for who, racer in zip("ABC", racers, strict=True)}
    assert sorted(itertools.chain(*won.values())) == sorted(str(number) for number in range(40))
    store = folder_store(folder)
    for who, numbers in won.items():
        for number in numbers:
            blob = store.get(f"{spelt[who]}{number}")
            assert blob is not None
            assert (blob.about["by"], blob.data.decode()) == (who, who), "an entry is one's own"
    assert len(files(folder)) == 80


def test_a_killed_process_leaves_whole_entries_only(
    folder: Path, run: Callable[..., subprocess.Popen[str]]
) -> None:
    for round_ in range(8):
        saver = run(SAVER, str(folder))
        time.sleep(0.02 + 0.013 * round_)
        saver.send_signal(signal.SIGKILL)
        saver.wait()
        store = folder_store(folder)
        used = set()
        for name, about in store.list().items():
            blob = store.get(name)
            assert blob is not None
            assert blob.data == b"%d" % about["by"] * 5000, "data and description belong together"
            used.add(name)
        spare = [file for file in files(folder) if file.endswith(".tmp")]
        assert spare == []
