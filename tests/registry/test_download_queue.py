"""The queue of downloads: shared by programs, ordered, limited, and none the worse for a crash."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from converters.errors import BadValue, WriteFailed
from registry.downloads.queue import DownloadQueue
from registry.downloads.records import Arrival, DownloadState, Limits, Trouble, Wanted
from registry.downloads.runner import KEPT, Runner
from registry.errors import LibraryUnusable
from registry.storage.file_lock import FileLock, is_held

FREE = Limits(in_all=1000, per_host=1000)
TROUBLE = Trouble("no answer", "not_available", None, None, 3, passing=True)
ARRIVAL = Arrival("/models/a", 1, "downloaded")


def wanted(name: str, host: str = "hub", size: int = 10, folder: str | None = None) -> Wanted:
    return Wanted("huggingface", host, f'{{"name":"{name}"}}', name, name, size, None, folder)


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[DownloadQueue]:
    with DownloadQueue(tmp_path / "downloads") as opened:
        yield opened


def labels(queue: DownloadQueue, *states: DownloadState) -> list[str]:
    chosen = states or tuple(DownloadState)
    return [each.wanted.label for each in queue.all() if each.state in chosen]


def claimed(runner: Runner, limits: Limits = FREE) -> list[str]:
    """All that may run now, in the order in which it is given out."""
    return [download.wanted.label for download in runner.claim(limits)]


def test_downloads_run_by_priority_and_in_the_order_in_which_they_came(
    queue: DownloadQueue,
) -> None:
    queue.add([wanted("b"), wanted("a")])
    queue.add([wanted("urgent")], priority=1)
    (last,) = queue.add([wanted("c")])
    (low,) = queue.add([wanted("low")], priority=-1)
    queue.move(last.id, first=True)
    queue.prioritise(low.id, -2)
    with queue.runner() as runner:
        assert claimed(runner) == ["urgent", "c", "b", "a", "low"]


def test_the_same_file_for_the_same_folder_is_one_download(queue: DownloadQueue) -> None:
    (one,) = queue.add([wanted("a")])
    (again,) = queue.add([wanted("a")])
    (other,) = queue.add([wanted("a", folder="/elsewhere")])
    assert one.id == again.id != other.id


@pytest.mark.parametrize("end", ["paused", "failed", "done"])
def test_what_is_asked_for_again_is_queued_again(queue: DownloadQueue, end: str) -> None:
    (one,) = queue.add([wanted("a")])
    if end == "paused":
        queue.pause(one.id)
    else:
        with queue.runner() as runner:
            runner.claim(FREE)
            if end == "failed":
                runner.failed(one.id, TROUBLE)
            else:
                runner.done([(one.id, ARRIVAL, 10)])
    assert [each.state for each in queue.all()] == [end]
    queue.add([wanted("a")])
    (now,) = queue.all()
    assert (now.state, now.trouble, now.arrival) == ("queued", None, None)


def test_limits_hold_for_all_programs_together(queue: DownloadQueue) -> None:
    queue.add([wanted(f"{host}{number}", host) for host in "xyz" for number in range(3)])
    with queue.runner() as one, DownloadQueue(queue.file.path.parent) as other:
        limits = Limits(in_all=5, per_host=2)
        first = claimed(one, Limits(in_all=1, per_host=1))
        with other.runner() as two:
            assert [*first, *claimed(two, limits)] == ["x0", "x1", "y0", "y1", "z0"]
            assert claimed(one, limits) == []
            assert (one.others(), two.others()) == (1, 1)


def test_large_files_do_not_all_run_at_once_and_small_ones_pass_them(
    queue: DownloadQueue,
) -> None:
    queue.add([wanted(f"large{number}", size=1000) for number in range(3)])
    queue.add([wanted(f"middling{number}", size=100) for number in range(3)])
    queue.add([wanted("small")])
    with queue.runner() as runner:
        limits = Limits(in_all=9, per_host=9, sizes=((100, 4), (1000, 2)))
        now = ["large0", "large1", "middling0", "middling1", "small"]
        assert claimed(runner, limits) == now
        assert claimed(runner, limits) == []
        runner.done([(1, ARRIVAL, 1000)])
        assert claimed(runner, limits) == ["large2"]


def test_two_downloads_of_the_same_bytes_never_run_at_once(queue: DownloadQueue) -> None:
    same = [
        Wanted("civitai", "c", f"{number}", f"copy{number}", "bytes", folder="/f")
        for number in range(2)
    ]
    queue.add(same)
    with queue.runner() as runner:
        assert claimed(runner) == ["copy0"]
        runner.done([(1, ARRIVAL, 10)])
        assert claimed(runner) == ["copy1"]


def test_what_a_program_leaves_at_its_end_is_queued_again(queue: DownloadQueue) -> None:
    queue.add([wanted("a")])
    with queue.runner() as runner:
        assert claimed(runner) == ["a"]
    assert labels(queue, DownloadState.QUEUED) == ["a"]
    assert [path.suffix for path in queue.file.path.parent.glob("*.lock")] == []


CLAIM_AND_HANG = """
import sys, time
from pathlib import Path
from registry.downloads.queue import DownloadQueue
from registry.downloads.records import Limits
with DownloadQueue(Path(sys.argv[1])) as queue, queue.runner() as runner:
    assert runner.claim(Limits(9, 9))
    print("claimed", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_program_ran_is_queued_again_whatever_the_clock_says(
    queue: DownloadQueue,
) -> None:
    queue.add([wanted("a")])
    command = [sys.executable, "-c", CLAIM_AND_HANG, queue.file.path.parent]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"claimed\n"
        assert labels(queue, DownloadState.RUNNING) == ["a"]
        with queue.runner() as runner:
            assert claimed(runner) == []
            queue.pause(1)
            child.kill()
            child.wait()
            assert labels(queue, DownloadState.PAUSED) == ["a"], "what was asked of it is done"
            queue.resume(1)
            assert claimed(runner) == ["a"]
    assert not list(queue.file.path.parent.glob("*.lock"))


def test_a_runner_is_told_what_others_wish(queue: DownloadQueue) -> None:
    one, two, three = queue.add([wanted("a"), wanted("b"), wanted("c")])
    with queue.runner() as runner:
        claimed(runner)
        queue.pause(one.id)
        assert not queue.cancel(two.id)
        queue.pause(three.id)
        queue.resume(three.id)
        assert runner.wishes() == {one.id: "pause", two.id: "cancel"}
        told = [runner.stopped(number) for number in (one.id, two.id, three.id)]
        assert told == ["pause", "cancel", ""]
    assert [(each.id, each.state) for each in queue.all()] == [
        (one.id, "paused"),
        (three.id, "queued"),
    ]


def test_what_was_cancelled_is_remembered_until_its_bytes_are_gone(queue: DownloadQueue) -> None:
    waits, runs, dead = queue.add([wanted("waits"), wanted("runs"), wanted("dead")])
    with queue.runner() as runner:
        queue.pause(waits.id)
        assert claimed(runner) == ["runs", "dead"]
        assert [queue.cancel(each.id) for each in (waits, runs, dead)] == [True, False, False]
        assert runner.stopped(runs.id) == "cancel"
    gone = [waits.id, runs.id, dead.id]  # the last was given up with its runner
    assert [each.id for each in queue.cancelled()] == gone
    assert (queue.all(), queue.find(waits.id)) == ((), None)
    with queue.runner() as runner:
        queue.retry()
        assert claimed(runner) == []
        assert runner.unfinished() == {}
    assert [each.label for each in (one.wanted for one in queue.add([wanted("dead")]))] == ["dead"]
    assert [each.id for each in queue.cancelled()] == gone[:2], "wanted again"
    for number in gone:
        queue.forget(number)
    assert queue.cancelled() == ()
    assert labels(queue, DownloadState.QUEUED) == ["dead"]


def test_failures_are_kept_and_only_those_that_may_pass_are_tried_again(
    queue: DownloadQueue,
) -> None:
    queue.add([wanted("passing"), wanted("lasting")])
    with queue.runner() as runner:
        claimed(runner)
        runner.failed(1, TROUBLE)
        lasting = Trouble("other bytes", "corrupt", "try again", "a.ckpt", 1, passing=False)
        runner.failed(2, lasting)
    assert [each.trouble for each in queue.all()] == [TROUBLE, lasting]
    queue.retry()
    assert labels(queue, DownloadState.QUEUED) == ["passing"]
    queue.resume(2)
    assert labels(queue, DownloadState.QUEUED) == ["passing", "lasting"]


def test_of_what_is_done_only_the_last_is_kept(queue: DownloadQueue) -> None:
    count = KEPT + 5
    queue.add([wanted(f"{number}") for number in range(count)])
    with queue.runner() as runner:
        claimed(runner)
        runner.done([(number, ARRIVAL, 10) for number in range(1, count + 1)])
    assert len(queue.all()) == KEPT
    assert queue.clear() == KEPT
    assert queue.all() == ()


def test_a_newer_or_damaged_queue_is_named_and_left_alone(tmp_path: Path) -> None:
    with DownloadQueue(tmp_path) as queue:
        file = queue.file.path
    connection = sqlite3.connect(file)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LibraryUnusable, match="newer version"):
        DownloadQueue(tmp_path)
    file.write_bytes(b"no database at all" * 999)
    with pytest.raises(LibraryUnusable, match=r"queue\.db") as caught:
        DownloadQueue(tmp_path)
    assert "move it away" in (caught.value.hint or "")
    assert file.read_bytes().startswith(b"no database")


def test_a_disk_that_fails_is_no_reason_to_move_the_queue_away(queue: DownloadQueue) -> None:
    failure = pytest.raises(LibraryUnusable, match="the disk is full, or broken")
    with failure as caught, queue.file.writing():
        raise sqlite3.OperationalError("disk I/O error")
    assert caught.value.hint == "make room, or check the disk"


def test_what_is_asked_for_anew_has_not_begun(queue: DownloadQueue) -> None:
    queue.add([wanted("a")])
    with queue.runner() as runner:
        claimed(runner)
        runner.done([(1, ARRIVAL, 10)])
    (again,) = queue.add([wanted("a")])
    assert (again.state, again.received) == ("queued", 0)


def test_a_name_that_no_database_can_hold_is_refused_and_nothing_is_added(
    queue: DownloadQueue,
) -> None:
    with pytest.raises(BadValue, match="UTF-8"):
        queue.add([wanted("a"), wanted("\udcff")])
    assert queue.all() == ()


def test_folders_whose_names_are_no_unicode_are_kept_to_the_letter(queue: DownloadQueue) -> None:
    odd = "/models/caf\udce9"
    queue.add([wanted("a", folder=odd), wanted("b", folder=odd)])
    (again,) = queue.add([wanted("a", folder=odd)])
    assert (again.id, again.wanted.folder) == (1, odd)
    trouble = Trouble(f"{odd}: denied", "write_failed", None, f"{odd}/b.pt", 1, passing=False)
    with queue.runner() as runner:
        claimed(runner)
        runner.done([(1, Arrival(f"{odd}/a.pt", 1, "downloaded"), 10)])
        runner.failed(2, trouble)
    failed, done = queue.all()
    assert done.arrival is not None
    assert failed.trouble is not None
    assert done.arrival.path == f"{odd}/a.pt"
    assert (failed.trouble.path, failed.trouble.error) == (
        f"{odd}/b.pt",
        "/models/caf\\xe9: denied",
    )


def test_a_lock_excludes_others_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "held.lock"
    assert not is_held(path)
    with FileLock(path):
        assert is_held(path)
        with pytest.raises(WriteFailed, match="in use"), FileLock(path):
            pass
        assert is_held(path)
    assert not is_held(path)
    assert not path.exists()


class QueueMachine(RuleBasedStateMachine):
    """Two programs and their users do anything in any order; one may be killed at any time."""

    numbers = st.integers(1, 6)
    limits = Limits(in_all=3, per_host=2, sizes=((100, 1),))

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.queue = DownloadQueue(Path(self.folder.name))
        self.runners: list[tuple[Runner, FileLock]] = []
        self.running: dict[int, Runner] = {}
        self.born = 0

    def teardown(self) -> None:
        for _, lock in self.runners:
            lock.__exit__()
        self.queue.close()
        self.folder.cleanup()

    @precondition(lambda self: len(self.runners) < 2)
    @rule()
    def program_starts(self) -> None:
        self.born += 1
        name = f"runner{self.born}"
        lock = FileLock(self.queue.file.lock_of(name)).__enter__()
        self.runners.append((Runner(self.queue.file, name), lock))

    @precondition(lambda self: self.runners)
    @rule(first=st.booleans())
    def program_is_killed(self, first: bool) -> None:
        runner, lock = self.runners.pop(0 if first else -1)
        lock._close()  # as the system does; the file of the lock stays behind
        self.running = {n: other for n, other in self.running.items() if other is not runner}

    @rule(number=numbers, host=st.sampled_from("xy"), large=st.booleans())
    def add(self, number: int, host: str, large: bool) -> None:
        self.queue.add([wanted(f"file{number}", host, 100 if large else 10)])

    @rule(number=numbers)
    def pause(self, number: int) -> None:
        self.queue.pause(number)

    @rule(number=numbers)
    def resume(self, number: int) -> None:
        self.queue.resume(number)

    @rule(number=numbers)
    def cancel(self, number: int) -> None:
        assert self.queue.cancel(number) is False or number not in self.running

    @rule(number=numbers, first=st.booleans())
    def move(self, number: int, first: bool) -> None:
        self.queue.move(number, first=first)

    @precondition(lambda self: self.runners)
    @rule(first=st.booleans())
    def claim(self, first: bool) -> None:
        runner, _ = self.runners[0 if first else -1]
        for download in runner.claim(self.limits):
            assert download.id not in self.running
            self.running[download.id] = runner

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["done", "failed", "stopped"]))
    def ends(self, data: st.DataObject, how: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        runner = self.running.pop(number)
        if how == "done":
            runner.done([(number, ARRIVAL, 10)])
        elif how == "failed":
            runner.failed(number, TROUBLE)
        else:
            runner.stopped(number)

    @invariant()
    def what_runs_is_what_was_claimed_and_within_limits(self) -> None:
        found = [each for each in self.queue.all() if each.state is DownloadState.RUNNING]
        assert {each.id for each in found} == set(self.running)
        hosts = [each.wanted.host for each in found]
        assert len(found) <= 3
        assert all(hosts.count(host) <= 2 for host in hosts)
        assert sum((each.wanted.bytes or 0) >= 100 for each in found) <= 1


QueueMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
test_whatever_happens_nothing_runs_twice_or_is_lost = QueueMachine.TestCase
